"""Whether a gRPC call that failed at an endpoint may leave again, whatever it does: it reached nobody."""

from __future__ import annotations

from typing import Any

from trimtab.attempt import Ended, never_left
from trimtab.balancer import Pick
from trimtab.client.attempts import Request, Visit
from trimtab.client.channel_spec import target_of
from trimtab.client.links import Link


def unreached(pick: Pick | None, code: int, details: str | None, initial: object) -> bool:
    """Whether it provably reached nobody; see ``attempt.unsent``.

    Args:
        pick: of where it went; None: nowhere, for want of an endpoint.
        code: gRPC's status number.
        details: the status' text.
        initial: its initial metadata.
    """
    if pick is None or not never_left(target_of(pick.node.endpoint), code, details, initial):
        return False
    link: Link | None = pick.transport
    return link is not None and link.is_cut()


def received(call: Any) -> object:
    """The initial metadata of a blocking stub's call that has ended, without waiting; true if unknown.

    gRPC's own method waits until they are there, which in gRPC's thread, where calls end, is for ever.
    """
    state = getattr(call, "_state", None)
    return getattr(state, "initial_metadata", True)


def end_of(state: Request, visit: Visit, now: float, call: Any) -> Ended:
    """How an attempt of a blocking stub ended.

    Args:
        state: of its request.
        visit: where it was.
        now: [s, monotonic].
        call: gRPC's own, which has ended.
    """
    code = call.code().value[0]
    unsent = code != 0 and unreached(visit.pick, code, call.details(), received(call))
    return state.ended(now, code, call.trailing_metadata(), unsent=unsent)
