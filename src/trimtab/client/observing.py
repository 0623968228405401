"""Who watches this process's requests: exporters put themselves here, doors ask once per channel.

A channel takes the observers that are there when it is made, so one that nobody watches pays one look
at an attribute per call. An observer must not raise and must not block: it runs within the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from trimtab.balancer import Balancer
from trimtab.model import Endpoint

OTHER = "other"
_MOST_NAMES = 1000

LATENCY_BOUNDS_S = (
    0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006,
    0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2,
    0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100,
)  # fmt: skip
"""Upper bounds of the latency histograms [s], from gRFC A66."""

End = Callable[[str], None]
"""Takes the status: gRPC's name (``OK``), HTTP's number (``200``), or how it broke (``UNREACHED``)."""


class AttemptEnd(Protocol):
    """Takes how an attempt ended."""

    def __call__(self, status: str, /, *, more: bool = False) -> None:
        """See ``End``. ``more``: it reached nobody, and the request, of which it was all, leaves again."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt that leaves for an endpoint.

    Attributes:
        protocol: ``grpc`` or ``http``.
        balancer: who chose the endpoint.
        method: ``package.Service/Method``, or HTTP's in capitals.
        endpoint: where it goes.
        number: of the attempt, from 1.
        alone: whether it is the whole request, which nothing was declared of; unless its end says that
            more follow.
    """

    protocol: str
    balancer: Balancer
    method: str
    endpoint: Endpoint
    number: int = 1
    alone: bool = True

    @property
    def service(self) -> str:
        """The cluster's name: ``orders.shop:8080``."""
        return self.balancer.cluster

    @property
    def reason(self) -> str:
        """Who chose the endpoint, and of how many."""
        balancer = self.balancer
        again = "" if self.number == 1 else ", apart from earlier attempts"
        return f"{balancer.policy}, of {balancer.candidates}{again}"

    @property
    def address(self) -> tuple[str, int | None]:
        """The service's host and port, as a URL would name them."""
        host, _, port = self.service.rpartition(":")
        return (host, int(port)) if host and port.isdecimal() else (self.service, None)


class Observer(Protocol):
    """What an exporter offers. Called in the caller's thread; ends may come in another."""

    def attempt(self, sent: Sent) -> AttemptEnd:
        """An attempt leaves; the result is called once, when it has ended."""

    def call(self, service: str, method: str, before: float = 0.0) -> End:
        """A request that takes several attempts, or may, began ``before`` seconds ago; likewise."""


class Observers:
    """Several as one."""

    def __init__(self, each: Sequence[Observer]) -> None:
        self._each = tuple(each)

    def attempt(self, sent: Sent) -> AttemptEnd:
        """See ``Observer``."""
        ends = [observer.attempt(sent) for observer in self._each]

        def end(status: str, *, more: bool = False) -> None:
            for each in ends:
                each(status, more=more)

        return end

    def call(self, service: str, method: str, before: float = 0.0) -> End:
        """See ``Observer``."""
        ends = [observer.call(service, method, before) for observer in self._each]

        def end(status: str) -> None:
            for each in ends:
                each(status)

        return end


class Names:
    """Method names as label values: the first 1,000 as they are, the rest as ``other`` (gRFC A66)."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The label value of a name."""
        known = self._known.get(name)
        if known is None:
            known = name if len(self._known) < _MOST_NAMES else OTHER
            if known is name:
                self._known[name] = name
        return known


_installed: list[Observer] = []  # its single steps are atomic, a copy of it too


def install(observer: Observer) -> Callable[[], None]:
    """Have it watch the channels that are made from now on. Returns what takes it away again."""
    _installed.append(observer)

    def remove() -> None:
        with suppress(ValueError):  # it was taken away before
            _installed.remove(observer)

    return remove


def installed() -> Observer | None:
    """Who watches a channel that is made now; None: nobody."""
    found = _installed.copy()
    if len(found) > 1:
        return Observers(found)
    return found[0] if found else None


_STATUSES = tuple(
    sorted(grpc.StatusCode, key=lambda code: code.value[0])  # they are numbered without a gap
)


def name_of(code: int) -> str:
    """The name of gRPC's status number."""
    return _STATUSES[code].name if 0 <= code < len(_STATUSES) else "UNKNOWN"


def plain(method: Any) -> str:
    """``package.Service/Method`` from what gRPC calls a method: text or bytes, with a slash before."""
    text: str = method.decode() if isinstance(method, bytes) else method
    return text.removeprefix("/")
