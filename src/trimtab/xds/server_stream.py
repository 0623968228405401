"""What the two variants of the protocol share of one stream: client, subscriptions, limits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache

from trimtab.errors import ProtocolError
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.catalog import Audience, Catalog, Client, ClientKind
from trimtab.xds.resources import EdsSource, Resource
from trimtab.xds.response_bytes import nonce_of
from trimtab.xds.server_events import Acked, Event, Nacked, Unserved
from trimtab.xds.server_subscription import Subscription
from trimtab.xds.zone_views import Place, ServiceName

EDS_CLUSTER = "trimtab.dev/eds-cluster"
"""In an Envoy's ``node.metadata``: the cluster of its bootstrap that leads to trimtab. Clusters from
the separate CDS service then ask there for endpoints, over streams of their own."""

_INCOMPLETE = 4  # times as many names are taken before all sources are read
_OWN = {url: url for url in type_urls.ORDER}
_AGENTS_KEPT = 32  # user agents, which strangers make up, up to 64 KiB each
_NOT_FOUND = 5  # google.rpc.Code
_MAX_TEXT = 2000  # characters of a NACK: Envoy's may dump the resource, and end with the reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask for. Beyond it the stream ends.

    Attributes:
        names: subscribed names per stream, all types together, but for those of clusters there are.
        name_length: characters of a name.
        request_bytes: size of a request.
        node_bytes: size of the node in it.
    """

    names: int = 10_000
    name_length: int = 512
    request_bytes: int = 4 << 20
    node_bytes: int = 64 << 10


class Stream:
    """One client's stream."""

    __slots__ = ("_audience", "_delta", "_number", "_only_type", "_unserved", "catalog",
                 "client", "events", "limits", "now", "patient", "subscriptions")  # fmt: skip

    def __init__(
        self,
        catalog: Catalog,
        type_url: str | None,
        limits: Limits,
        *,
        delta: bool,
        audience: Audience | None = None,
    ) -> None:
        self.catalog = catalog
        self.client: Client | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.events: list[Event] = []
        self.limits = limits
        self.now = 0.0  # of the request that is being read [s, loop time]
        self.patient = False  # see Subscription
        self._only_type = type_url
        self._delta = delta
        self._audience = audience
        self._number = 0  # of the last response
        self._unserved: dict[str, None] = {}  # most have none: a set takes three times as much

    @property
    def is_aggregated_envoy(self) -> bool:
        """Whether an Envoy asks for all types on this stream."""
        kind = None if self.client is None else self.client.kind
        return kind is ClientKind.ENVOY and self._only_type is None

    def check_size(self, raw: bytes) -> None:
        """Refuse an oversized request.

        Raises:
            ProtocolError: it is above the limit.
        """
        if len(raw) > self.limits.request_bytes:
            raise ProtocolError(
                f"request: {len(raw)} bytes are more than the limit of {self.limits.request_bytes}"
            )

    def check_count(self, count: int) -> None:
        """Refuse a list of names that can't be within the limit, before it is looked at.

        Raises:
            ProtocolError: it is too long.
        """
        have = sum(s.explicit for s in self.subscriptions.values())
        most = self.limits.names * _INCOMPLETE + self.catalog.offered + have
        if count > most:
            raise self._too_many(count, self.limits.names)

    def check_names(self, sub: Subscription, names: Collection[str]) -> None:
        """Refuse names that are too long or too many, before a subscription takes them.

        Those under which everybody gets a cluster that there is don't count: an Envoy asks for the
        endpoints of all clusters that its wildcard was given.

        Raises:
            ProtocolError: a limit is exceeded.
        """
        for name in names:
            if len(name) > self.limits.name_length:
                raise ProtocolError(
                    f"resource name {name[:64]}...: {len(name)} characters are more than the "
                    f"limit of {self.limits.name_length}"
                )
        new = [n for n in names if n not in sub.entries or not sub.entries[n].explicit]
        subs = self.subscriptions.values()
        if sum(s.explicit for s in subs) + len(new) <= self.limits.names:
            return
        count = sum(s.explicit - s.offered() for s in subs) + sum(not sub.offers(n) for n in new)
        # What isn't known yet can't be told from what there isn't.
        most = self.limits.names * (1 if self.catalog.complete else _INCOMPLETE)
        if count > most:
            raise self._too_many(count, most)

    def _too_many(self, count: int, most: int) -> ProtocolError:
        return ProtocolError(
            f"resource_names: {count} names on one stream are more than the limit of {most} "
            f"(those of clusters that there are don't count); use several streams, or raise "
            "limits.names_per_stream"
        )

    def subscription(self, type_url: str, node: wire.Node | None) -> Subscription | None:
        """The subscription that a request is about; None if that type is not served.

        Raises:
            ProtocolError: the type is missing, or is not the one of this service, or the node's
            metadata are wrong.
        """
        if self._only_type is not None:
            if type_url and type_url != self._only_type:
                raise ProtocolError(
                    f"type_url {type_url}: this service serves {self._only_type} only"
                )
            type_url = self._only_type
        elif not type_url:
            raise ProtocolError("type_url is empty; an aggregated stream needs one")
        if self.client is None:
            # Only the first request is sure to carry the node.
            if node is not None and (size := node.ByteSize()) > self.limits.node_bytes:
                raise ProtocolError(
                    f"node: {size} bytes are more than the limit of {self.limits.node_bytes}"
                )
            self.client = replace(client_of(node), audience=self._audience)
            if self._only_type == type_urls.CDS:
                # There may be no aggregated stream on which Envoy could ask for endpoints.
                source = self._eds_source(node)
                self.client = replace(self.client, eds_source=source)
        found = self.subscriptions.get(type_url)
        if found is None:
            if type_url not in _OWN:
                if type_url not in self._unserved and len(self._unserved) < self.limits.names:
                    self._unserved[type_url] = None
                    self.events.append(Unserved(type_url))
                return None
            type_url = _OWN[type_url]  # one text for all streams, not each its own copy
            found = Subscription(type_url, self.catalog, self.client)
            found.patient = self.patient
            self.subscriptions[type_url] = found
        return found

    def _eds_source(self, node: wire.Node | None) -> EdsSource | None:
        if node is None or EDS_CLUSTER not in node.metadata.fields:
            return None
        cluster = node.metadata.fields[EDS_CLUSTER].string_value
        if not 0 < len(cluster) <= self.limits.name_length:
            raise ProtocolError(
                f"node.metadata[{EDS_CLUSTER!r}]: a text of 1 to {self.limits.name_length} "
                "characters is expected there, the name of the cluster in the client's bootstrap "
                "that leads to trimtab"
            )
        return EdsSource(cluster, self._delta)

    def next_nonce(self) -> str:
        """A nonce that this stream has not used yet."""
        self._number = self.catalog.responses.next_number()
        return nonce_of(self._number)

    def response_of_one(self, resource: Resource) -> tuple[str, bytes]:
        """The nonce and the encoding of a response with one resource and nothing else."""
        self._number, message = self.catalog.responses.of_one(
            resource, above=self._number, delta=self._delta
        )
        return nonce_of(self._number), message

    def answered(self, sub: Subscription, nonce: str, error: wire.Status | None) -> None:
        """Take in an ACK (no error) or a NACK of a response that still waits for its answer.

        A NACK is known by its ``error_detail``, never by comparing versions.
        """
        if error is None:
            accepted = sub.accept(nonce, self.now)
            if accepted is not None:
                response, replaced = accepted
                names = tuple(entry.name for entry, _, _ in response.resources)
                self.events.append(Acked(sub.type_url, names, response.version, replaced))
            return
        refused = sub.refuse(nonce, error.message, self.now)
        if refused is not None:
            version, blamed = refused
            self.events.append(
                Nacked(
                    sub.type_url,
                    tuple(entry.name for entry in blamed),
                    version,
                    error.code,
                    error.message[-_MAX_TEXT:],
                )
            )


def client_of(node: wire.Node | None) -> Client:
    """Who a client is, from the node that it sends."""
    if node is None:
        return Client()
    fields = node.metadata.fields
    namespace = next(
        (fields[k].string_value for k in ("namespace", "NAMESPACE") if k in fields), ""
    )
    return Client(
        node_id=node.id,
        kind=ClientKind.of(node.user_agent_name),
        namespace=namespace,
        user_agent=_shared(f"{node.user_agent_name} {node.user_agent_version}".strip()),
        place=_place_of(node, namespace),
    )


@lru_cache(maxsize=_AGENTS_KEPT)
def _shared(text: str) -> str:
    """One text for all streams, as clients are of few kinds.

    ``sys.intern`` keeps texts for ever in Python 3.12.0 to 3.12.6, those too that strangers make up.
    """
    return text


def _place_of(node: wire.Node, namespace: str) -> Place | None:
    fields = node.metadata.fields
    machine = next((fields[k].string_value for k in ("node_name", "NODE_NAME") if k in fields), "")
    if not node.locality.zone and not machine:
        return None
    return Place(node.locality.zone, machine, ServiceName.parse(node.cluster, namespace))


def resource_error(name: str, text: str) -> wire.ResourceError:
    """The answer for a name that nothing stands behind (xRFC TP3); old clients skip it."""
    return wire.ResourceError(
        resource_name=wire.ResourceName(name=name),
        error_detail=wire.Status(code=_NOT_FOUND, message=text),
    )
