"""Which endpoint served a call, and why: ``trimtab.call_details``, for those who ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from trimtab.client.forking import hold_across_forks
from trimtab.client.observing import AttemptEnd, End, Observer, Observers, Sent
from trimtab.model import Endpoint


@dataclass(slots=True)
class AttemptDetails:
    """One attempt of a request.

    Attributes:
        service: the cluster's name.
        method: ``package.Service/Method``, or HTTP's.
        endpoint: where it went.
        number: of the attempt within its request, from 1.
        reason: who chose the endpoint, and of how many.
        status: gRPC's name (``OK``), HTTP's number, or how it broke (``UNREACHED``); "" while it runs.
    """

    service: str
    method: str
    endpoint: Endpoint
    number: int
    reason: str
    status: str = ""

    @property
    def zone(self) -> str:
        """The endpoint's; "" is unknown."""
        return self.endpoint.locality.zone


class Wanted:
    """Whether anybody in this process asks. A plain attribute: every call looks at it.

    Attributes:
        now: how many contexts are open.
    """

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


WANTED = Wanted()
MOST = 1000
"""Attempts that one context keeps, the first ones."""

_lock = threading.Lock()
hold_across_forks(_lock)
_open: ContextVar[list[AttemptDetails] | None] = ContextVar("trimtab_call_details", default=None)


@contextmanager
def call_details() -> Iterator[list[AttemptDetails]]:
    """Collect the attempts of the requests that begin within, over gRPC and HTTP, in order.

    In threads and tasks it holds for what the present one does, and for tasks that it makes. Each
    attempt appears when it leaves; its ``status`` is there once it has ended. At most ``MOST`` are kept: a
    task that was made within may live for ever.
    """
    found: list[AttemptDetails] = []
    token = _open.set(found)
    with _lock:
        WANTED.now += 1
    try:
        yield found
    finally:
        with _lock:
            WANTED.now -= 1
        _open.reset(token)


def joined(observer: Observer | None) -> Observer | None:
    """``observer``, and who asks for details of this context; None: neither is there."""
    found = _open.get()
    if found is None:
        return observer
    asking = _Asking(found)
    return asking if observer is None else Observers([observer, asking])


class _Asking:
    def __init__(self, found: list[AttemptDetails]) -> None:
        self._found = found

    def attempt(self, sent: Sent) -> AttemptEnd:
        if len(self._found) >= MOST:
            return _nothing
        details = AttemptDetails(sent.service, sent.method, sent.endpoint, sent.number, sent.reason)
        self._found.append(details)

        def end(status: str, *, more: bool = False) -> None:  # noqa: ARG001 - it is one either way
            details.status = status

        return end

    def call(self, service: str, method: str, before: float = 0.0) -> End:  # noqa: ARG002 - attempts say all
        return _nothing


def _nothing(_status: str, *, more: bool = False) -> None:
    """A call has ended, or an attempt that is one too many."""
