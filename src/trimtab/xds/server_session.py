"""The control plane's end of one stream: requests in, responses out. Bytes at both sides.

Nothing is queued: what to say is decided at the moment of writing, so a slow client costs its marks
only and then receives the latest state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from trimtab.xds import server_delta, server_sotw, type_urls
from trimtab.xds.catalog import Audience, Catalog, Client
from trimtab.xds.server_events import (
    Acked,
    Event,
    Nacked,
    ResourceStatus,
    Subscribed,
    TooLarge,
    Unserved,
)
from trimtab.xds.server_stream import Limits, Stream
from trimtab.xds.server_subscription import SLICE

__all__ = [
    "Acked",
    "Event",
    "Limits",
    "Nacked",
    "ResourceStatus",
    "ServerSession",
    "Subscribed",
    "TooLarge",
    "Unserved",
]

_CDS_LAST = (*type_urls.ORDER[1:], type_urls.CDS)


class ServerSession:
    """One client's stream of a discovery service.

    Args:
        catalog: what there is.
        delta: the incremental variant.
        type_url: of a service of one type, such as EDS; None for the aggregated service.
        limits: what the client may ask for.
        audience: what it may know of; None: everything.
        patient: what a delta client of all resources, or an Envoy, brings along and this process
            has never heard of is not told to be gone before ``believe``: the replica that it comes
            from may have heard of it earlier.

    Attributes:
        last_type: the type URL of what ``next_response`` returned last; "" before.
    """

    __slots__ = ("_build", "_catalog", "_receive", "_stream", "last_type")

    def __init__(
        self,
        catalog: Catalog,
        *,
        delta: bool,
        type_url: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        audience: Audience | None = None,
        patient: bool = False,
    ) -> None:
        self.last_type = ""
        self._catalog = catalog
        self._stream = Stream(catalog, type_url, limits, delta=delta, audience=audience)
        self._stream.patient = patient
        self._receive = server_delta.receive if delta else server_sotw.receive
        self._build = server_delta.build if delta else server_sotw.build

    @property
    def client(self) -> Client | None:
        """Who is at the other end; None before the first request."""
        return self._stream.client

    def receive(self, request: bytes, now: float = 0.0) -> bool:
        """Take in a request.

        Args:
            request: as it came.
            now: when [s, any steady clock]; ``ResourceStatus.since`` is in the same terms.

        Returns:
            Whether it was more than an ACK, so that ``next_response`` may have something.

        Raises:
            ProtocolError: it breaks a rule or a limit. End the stream with INVALID_ARGUMENT.
        """
        self._stream.check_size(request)
        self._stream.now = now
        return self._receive(self._stream, request)

    def changed(self, clusters: Collection[str]) -> bool:
        """Note that clusters changed (``Catalog.apply`` says which).

        Returns:
            Whether ``next_response`` may have something; it may still find nothing new.
        """
        waiting = False
        for sub in self._stream.subscriptions.values():
            sub.mark(clusters)
            waiting = waiting or sub.pending()
        return waiting and self._catalog.synced

    def believe(self) -> bool:
        """End the patience: what is unknown still is gone.

        Returns:
            as ``changed``.
        """
        self._stream.patient = False
        for sub in self._stream.subscriptions.values():
            sub.patient = False
            sub.refresh()
        return self.changed(())

    @property
    def prepared(self) -> bool:
        """Whether ``next_response`` has little to encode, as far as ``changed`` has noted it."""
        for sub in self._stream.subscriptions.values():
            # Asked before each response: most have one resource.
            if (len(sub.raw) > SLICE or self._catalog.any_large) and not sub.prepared:
                return not self._catalog.synced
        return True

    def prepare(self) -> None:
        """Encode a bounded part of what ``next_response`` may need, so that it is quick.

        To be called again and again, with turns for others in between, until it is ``prepared``.
        """
        for sub in self._stream.subscriptions.values():
            if not sub.prepared:
                sub.prepare()
                return

    def next_response(self) -> bytes | None:
        """The next message to write; None if the client has everything.

        Clusters come before their endpoints, these before Listeners and routes; a cluster that only
        ends comes last.
        """
        if not self._catalog.synced:
            return None
        subs = self._stream.subscriptions
        for sub in subs.values():
            sub.refresh()
        clusters = subs.get(type_urls.CDS)
        order = type_urls.ORDER
        if clusters is not None and clusters.dirty and clusters.only_removals():
            order = _CDS_LAST
        for type_url in order:
            found = subs.get(type_url)
            if found is not None and found.pending():
                message = self._build(self._stream, found)
                if message is not None:
                    self.last_type = type_url
                    return message
        return None

    def held(self) -> list[str]:
        """The types of which the client is told nothing new: it refused what it may have an older version of."""
        subs = self._stream.subscriptions.values()
        return [s.type_url for s in subs if server_sotw.may_delete_older(self._stream, s)]

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._stream.events = self._stream.events, []
        return events

    def status(self) -> list[ResourceStatus]:
        """Every subscribed resource and what the client has of it."""
        return list(self.statuses())

    def statuses(self) -> Iterator[ResourceStatus]:
        """As ``status``, one by one; between two of them the stream may go on."""
        for sub in list(self._stream.subscriptions.values()):
            yield from sub.statuses()

    def statuses_of(self, cluster: str) -> list[ResourceStatus]:
        """As ``status``, of the names that mean this cluster only."""
        subs = self._stream.subscriptions.values()
        return [status for sub in subs for status in sub.statuses_of(cluster)]

    def __repr__(self) -> str:
        who = self.client.node_id if self.client else "no request yet"
        states = [status.state for status in self.status()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return f"<ServerSession {who}: {counts or 'nothing subscribed'}>"
