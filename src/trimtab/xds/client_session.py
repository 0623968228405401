"""The subscriber's end of an aggregated stream: from a name to its endpoints, as gRPC does it.

For each watched name it asks for the Listener of that name, its routes if they are not inline, the
Cluster of the default route and that Cluster's endpoints (state of the world, gRFC A27). Good
resources of a response are used even if others in it are bad; those are NACKed by name (A46). What
was once resolved stays, whatever happens later: ``snapshots`` holds the last good state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import DecodeError

from trimtab.errors import ConfigError, ProtocolError
from trimtab.model import Locality, Snapshot
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.client_cache import Chain, Resources, name_of

_INVALID_ARGUMENT = 3  # google.rpc.Code; what a NACK carries, as native gRPC
_ASKING_ORDER = (type_urls.LDS, type_urls.RDS, type_urls.CDS, type_urls.EDS)
_MAX_NACK = 4000  # characters


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Who this client is, as its bootstrap says.

    Attributes:
        id: the node's id.
        cluster: the client's own service.
        locality: where it runs.
        metadata: JSON values; trimtab's control plane reads ``namespace``.
        user_agent_name: the implementation.
        user_agent_version: its version.
    """

    id: str = ""
    cluster: str = ""
    locality: Locality = field(default_factory=Locality)
    metadata: Mapping[str, object] = field(default_factory=dict)
    user_agent_name: str = "trimtab"
    user_agent_version: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A watched name has these endpoints now."""

    name: str
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Absent:
    """The control plane says that there is no such service. An earlier snapshot stays."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A resource was bad and was NACKed. The last good one stays.

    Attributes:
        type_url: its type.
        name: its name; "" if even that could not be read.
        reason: the field, the bad value and the rule.
        watches: the watched names that need it.
    """

    type_url: str
    name: str
    reason: str
    watches: tuple[str, ...] = ()


class _Type:
    """The subscription to one type."""

    __slots__ = ("asked", "nonce", "type_url", "version")

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.asked: tuple[str, ...] = ()  # in the last request of this stream
        self.version = ""  # accepted last; kept over streams
        self.nonce = ""


class ClientSession:
    """What one client wants from one control plane. Not thread-safe.

    Args:
        node: who asks.

    Attributes:
        received: resources by type URL and by whether they were valid; those that were not asked for
            are neither. May be replaced by one that outlives the session.
    """

    def __init__(self, *, node: NodeInfo) -> None:
        self.received: Counter[tuple[str, bool]] = Counter()
        self._node = node_message(node)
        self._types = {type_url: _Type(type_url) for type_url in _ASKING_ORDER}
        self._resources = Resources()
        self._watches: dict[str, _Watch] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._outbox: list[bytes] = []
        self._connected = False
        self._introduced = False  # the node was sent on this stream

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """The last good state of each watched name."""
        return MappingProxyType(self._snapshots)

    def watch(self, name: str) -> None:
        """Resolve a name from now on."""
        self._watches.setdefault(name, _Watch())

    def unwatch(self, name: str) -> None:
        """Forget a name."""
        self._watches.pop(name, None)
        self._snapshots.pop(name, None)

    def connected(self) -> None:
        """A new stream is open: everything is asked again."""
        self.disconnected()
        self._connected = True

    def disconnected(self) -> None:
        """The stream ended. What is known stays."""
        self._connected = self._introduced = False
        self._outbox.clear()
        for kind in self._types.values():
            kind.asked = ()
            kind.nonce = ""

    def take_requests(self) -> list[bytes]:
        """The requests to write now, in order."""
        if not self._connected:
            return []
        wanted = self._resources.wanted(self._watches)
        for type_url, names in wanted.items():
            kind = self._types[type_url]
            if names != kind.asked:
                self._ask(kind, names)
        requests, self._outbox = self._outbox, []
        return requests

    def receive(self, response: bytes) -> list[Resolved | Absent | Rejected]:
        """Take in a response; ACK or NACK it.

        Returns:
            What became of watched names, in the order in which they were watched, after what was
            refused.

        Raises:
            ProtocolError: the bytes are no response; close the stream.
        """
        try:
            message = wire.DiscoveryResponse.FromString(response)
        except DecodeError as error:
            raise ProtocolError(f"response: not a DiscoveryResponse: {error}") from error
        kind = self._types.get(message.type_url)
        if kind is None:
            raise ProtocolError(f"response: type_url {message.type_url!r} was not asked for")
        kind.nonce = message.nonce
        rejected = self._read(kind, message)
        wanted = self._resources.wanted(self._watches)
        if rejected:
            text = "; ".join(f"{r.name or 'a resource'}: {r.reason}" for r in rejected)
            detail = wire.Status(code=_INVALID_ARGUMENT, message=text[:_MAX_NACK])
            self._ask(kind, wanted[kind.type_url], detail)
        else:
            kind.version = message.version_info
            self._ask(kind, wanted[kind.type_url])
        return [*rejected, *self._verdicts()]

    def waiting_for(self, name: str) -> str:
        """What a watched name still needs, such as ``CDS orders.shop:8080``; "" if nothing."""
        return self._resources.chain(name).missing if name in self._watches else ""

    def _read(self, kind: _Type, message: wire.DiscoveryResponse) -> list[Rejected]:
        rejected: list[Rejected] = []
        asked = dict.fromkeys(kind.asked, False)  # whether the response spoke of it
        for body in message.resources:
            name = ""
            try:
                value = _unpacked(kind.type_url, body)
                name = name_of(value)
                if name not in asked:
                    continue  # not for this client: no verdict on it
                asked[name] = True
                self._resources.put(kind.type_url, name, value)
                self.received[kind.type_url, True] += 1
            except ProtocolError as problem:
                self.received[kind.type_url, False] += 1
                users = self._users(kind.type_url, name)
                rejected.append(Rejected(kind.type_url, name, str(problem), users))
        for error in message.resource_errors:
            name = error.resource_name.name
            if name in asked:
                asked[name] = True
                detail = error.error_detail
                self._resources.put_error(kind.type_url, name, detail.code, detail.message)
        if kind.type_url in type_urls.FULL_SET and all(r.name for r in rejected):
            self._resources.removed(kind.type_url, [n for n, said in asked.items() if not said])
        return rejected

    def _users(self, type_url: str, name: str) -> tuple[str, ...]:
        return tuple(
            watched
            for watched in self._watches
            if self._resources.chain(watched).names.get(type_url) == name
        )

    def _verdicts(self) -> Iterator[Resolved | Absent]:
        for name, watch in self._watches.items():
            chain = self._resources.chain(name)
            verdict = watch.judge(name, chain)
            if isinstance(verdict, Resolved):
                self._snapshots[name] = verdict.snapshot
            if verdict is not None:
                yield verdict

    def _ask(self, kind: _Type, names: tuple[str, ...], detail: wire.Status | None = None) -> None:
        kind.asked = names
        self._outbox.append(
            wire.DiscoveryRequest(
                version_info=kind.version,
                node=None if self._introduced else self._node,
                resource_names=names,
                type_url=kind.type_url,
                response_nonce=kind.nonce,
                error_detail=detail,
            ).SerializeToString()
        )
        self._introduced = True


class _Watch:
    """One watched name, and what its watcher was told last."""

    __slots__ = ("_parts", "_told")

    def __init__(self) -> None:
        self._parts: tuple[object, object] | None = None
        self._told: Snapshot | str | None = None

    def judge(self, name: str, chain: Chain) -> Resolved | Absent | None:
        """What is news for the watcher."""
        if chain.absent:
            self._parts = None
            if self._told == chain.absent:
                return None
            self._told = chain.absent
            return Absent(name, chain.absent)
        if chain.cluster is None or chain.assignment is None:
            return None
        parts = (chain.cluster, chain.assignment)
        if self._parts is not None and parts[0] is self._parts[0] and parts[1] is self._parts[1]:
            return None  # nothing that it is made of was received again
        self._parts = parts
        snapshot = Snapshot(
            chain.cluster.name,
            chain.assignment.endpoints,
            chain.cluster.policy,
            chain.cluster.service,
            chain.assignment.zones,
        )
        if snapshot == self._told:
            return None
        self._told = snapshot
        return Resolved(name, snapshot)


def _unpacked(type_url: str, body: bytes) -> bytes:
    try:
        wrapped = any_pb2.Any.FromString(body)
    except DecodeError as error:
        raise ProtocolError(f"not an Any: {error}") from error
    if wrapped.type_url != type_url:
        raise ProtocolError(f"type_url {wrapped.type_url!r} in a response of {type_url}")
    return wrapped.value


def node_message(node: NodeInfo) -> wire.Node:
    """The node as each first request carries it.

    Raises:
        ConfigError: its metadata is not JSON.
    """
    metadata = struct_pb2.Struct()
    try:
        metadata.update(cast("Mapping[str, None]", node.metadata))  # its JSON type is recursive
    except (ValueError, TypeError) as error:
        raise ConfigError(f"bootstrap: node.metadata is not JSON: {error}") from error
    return wire.Node(
        id=node.id,
        cluster=node.cluster,
        metadata=metadata,
        locality=wire.Locality(
            region=node.locality.region,
            zone=node.locality.zone,
            sub_zone=node.locality.sub_zone,
        ),
        user_agent_name=node.user_agent_name,
        user_agent_version=node.user_agent_version,
        # Spilling over to lower priorities before a higher one is empty is not done here.
        client_features=["envoy.lb.does_not_support_overprovisioning"],
    )
