"""A sync call that its caller has in hand while it still waits for an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trimtab.client.unsettled_call import UnsettledCall
from trimtab.policies.selection import Labels


class DeferredCall(UnsettledCall):
    """A call that has yet to leave.

    Dropped before that, it never leaves, as a native call is cancelled; with callbacks it is kept, as
    gRPC does.

    Args:
        begin: starts the native call with what is left of the timeout [s].
        deadline: when its time is over, by ``clock``; None for never.
        wait_for_ready: as the caller gave it.
        clock: seconds, monotonic.
        keep: called when somebody counts on the call although he may drop it.
        labels: which endpoints will do; None for any.
    """

    def __init__(
        self,
        begin: Callable[[float | None], Any],
        deadline: float | None,
        wait_for_ready: bool | None,
        clock: Callable[[], float],
        keep: Callable[[DeferredCall], None],
        labels: Labels | None = None,
    ) -> None:
        super().__init__(deadline, clock)
        self.begin = begin
        self.wait_for_ready = wait_for_ready
        self.labels = labels
        self._keep = keep

    def keep(self) -> None:
        """See the base."""
        self._keep(self)

    def __repr__(self) -> str:
        return "<DeferredCall that waits for an endpoint>" if self.waiting else super().__repr__()

    __str__ = __repr__
