"""Whether a call can leave now, should wait, or must fail, and in which words. For both doors.

The rules are native gRPC's (doc/wait-for-ready.md, doc/connectivity-semantics-and-api.md):
nothing is known yet, or connections are being made: wait up to the deadline. It is known that
there is nobody to call: fail at once with UNAVAILABLE, unless the call waits for ready.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import grpc

from trimtab.balancer import Balancer, Node
from trimtab.client.links import Link
from trimtab.client.watching import FIXED
from trimtab.model import Health
from trimtab.policies.selection import Labels, in_words

_SHOWN = 3
_PREFIX = "failed to connect to all addresses; last error: "  # of one address


class Standing(enum.Enum):
    """What a channel can do for a call; the value is its connectivity as gRPC names it."""

    READY = enum.auto()
    UNKNOWN = enum.auto()
    UNAVAILABLE = enum.auto()
    EMPTY = enum.auto()
    CONNECTING = enum.auto()
    FAILING = enum.auto()
    BROKEN = enum.auto()
    CLOSED = enum.auto()


_CONNECTIVITY = {
    Standing.READY: grpc.ChannelConnectivity.READY,
    Standing.UNKNOWN: grpc.ChannelConnectivity.CONNECTING,
    Standing.UNAVAILABLE: grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    Standing.EMPTY: grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    Standing.CONNECTING: grpc.ChannelConnectivity.CONNECTING,
    Standing.FAILING: grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    Standing.BROKEN: grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    Standing.CLOSED: grpc.ChannelConnectivity.SHUTDOWN,
}
_HOPELESS = frozenset({Standing.UNAVAILABLE, Standing.EMPTY, Standing.FAILING, Standing.BROKEN})
# Those that may be others for some of the endpoints.
_BY_ENDPOINTS = frozenset({Standing.READY, Standing.CONNECTING, Standing.FAILING})


class Availability:
    """The standing of one channel. The door calls ``refresh`` after every change.

    Args:
        balancer: whose nodes' ``transport`` is a ``Link`` or None.
        clock: seconds, monotonic.
        complaint: what is wrong with the caller's credentials, "" if nothing is.

    Attributes:
        origin: whom the endpoints come from; the door sets it once it watches.
        failure: why there are no endpoints, or no newer ones; "" if there is nothing to say.
        trouble: what went wrong in this process when they were followed last, "" if nothing did: a bug, or
            a strategy of the user's own that raises.
    """

    def __init__(
        self,
        service: str,
        balancer: Balancer,
        clock: Callable[[], float],
        complaint: Callable[[], str] = str,
    ) -> None:
        self._complaint = complaint
        self._service = service
        self._balancer = balancer
        self._clock = clock
        self._since = 0.0
        self.failure = ""
        self.trouble = ""
        self.origin = ""
        self.closed = False
        self.standing = Standing.UNKNOWN

    def updated(self) -> None:
        """A new snapshot is in the balancer."""
        self._since = self._clock()
        self.failure = ""

    def refresh(self) -> bool:
        """Find the standing anew, O(endpoints) at worst; whether it differs from before."""
        before = self.standing
        self.standing = self._find()
        return self.standing is not before

    def _find(self) -> Standing:
        if self.closed:
            return Standing.CLOSED
        if self.trouble and not self._balancer.connected:
            return Standing.BROKEN
        if self._balancer.snapshot is None:
            return Standing.UNAVAILABLE if self.failure else Standing.UNKNOWN
        if not self._balancer.pickable:
            return Standing.EMPTY
        if self._balancer.connected:
            return Standing.READY
        if all(_failing(node) for node in self._usable()):
            return Standing.FAILING
        return Standing.CONNECTING

    def _standing(self, labels: Labels | None) -> Standing:
        """For calls that want these labels; the whole's if they want none."""
        if not labels or self.standing not in _BY_ENDPOINTS:
            return self.standing
        pickable, connected = self._balancer.reaches(labels)
        if not pickable:
            return Standing.EMPTY
        if connected:
            return Standing.READY
        failing = all(_failing(node) for node in self._usable(labels))
        return Standing.FAILING if failing else Standing.CONNECTING

    def ready(self, labels: Labels | None = None) -> bool:
        """Whether a call can leave now, one for ``labels`` if it wants some."""
        return self._standing(labels) is Standing.READY

    @property
    def connectivity(self) -> grpc.ChannelConnectivity:
        """The standing in gRPC's terms."""
        return _CONNECTIVITY[self.standing]

    def fails(self, wait_for_ready: bool | None, labels: Labels | None = None) -> bool:
        """Whether a call that would have to wait fails at once instead."""
        return not wait_for_ready and self._standing(labels) in _HOPELESS

    def explain(self, labels: Labels | None = None) -> str:
        """Why a call can't leave now: the service, what is known, how old it is, what to do."""
        among = f" with the labels {in_words(labels)}" if labels else ""
        match self._standing(labels):
            case Standing.BROKEN:
                return (
                    f"{self._service}: its endpoints could not be followed: {self.trouble}; trimtab tries "
                    "again every second; the log has the traceback"
                )
            case Standing.UNAVAILABLE:
                return self.failure
            case Standing.UNKNOWN:
                return (
                    f"{self._service}: no endpoints received yet from {self.origin}; trimtab keeps "
                    "waiting; check that it runs and knows the service"
                )
            case Standing.EMPTY:
                if self.origin == FIXED and self._balancer.told_of_none:
                    return f"{self._service}: endpoints= is empty; give at least one"
                return (
                    f"{self._balancer.why_empty(labels)}{self._facts()}; check that its pods are running "
                    "and ready; trimtab takes them up as soon as one is"
                )
            case Standing.CONNECTING:
                return (
                    f"{self._service}: not connected to any endpoint{among} yet{self._facts()}; "
                    "trimtab goes on connecting"
                )
            case _:
                complaint = self._complaint()
                return (
                    f"{self._service}: no endpoint{among} accepts connections{self._facts()}"
                    f"{self._last_errors(labels)}{complaint and '; '}{complaint}; trimtab tries again and again; check that the pods "
                    "listen on these ports and can be reached from here"
                )

    def _facts(self) -> str:
        snapshot = self._balancer.snapshot
        counts = snapshot.counts() if snapshot else {}
        states = ", ".join(f"{counts.get(h, 0)} {h.value}" for h in Health)
        facts = f" (endpoints: {states}; list received {self._clock() - self._since:.0f} s ago "
        facts += f"from {self.origin}"
        # A failure after a good snapshot leaves that in use, so it is a fact and not the reason.
        return f"{facts}; since then: {self.failure})" if self.failure else f"{facts})"

    def _last_errors(self, labels: Labels | None) -> str:
        errors = [
            f"{node.endpoint.target}: {node.transport.error.removeprefix(_PREFIX)}"
            for node in self._usable(labels)
            if node.transport is not None and node.transport.error
        ]
        if not errors:
            return ""
        more = f" and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        return f"; last errors: {'; '.join(errors[:_SHOWN])}{more}"

    def _usable(self, labels: Labels | None = None) -> list[Node]:
        nodes = self._balancer.having(labels) if labels else self._balancer.nodes.values()
        return [node for node in nodes if node.usable]


def _failing(node: Node) -> bool:
    link: Link | None = node.transport
    return link is not None and link.failing
