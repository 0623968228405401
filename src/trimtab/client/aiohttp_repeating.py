"""What aiohttp sends once more by itself, through all middleware, after a connection that broke.

Where attempts are counted it is refused: it is recognised as another request object with the same timer.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

import aiohttp
from aiohttp import ClientRequest
from aiohttp.client import IDEMPOTENT_METHODS

from trimtab.client.aiohttp_errors import UNREACHED

# After these aiohttp sends a request of one of its IDEMPOTENT_METHODS once more.
_REPEATED = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)


class _GivenUp(NamedTuple):
    """A request that was sent as often as it may be, and how that ended."""

    request: ClientRequest
    error: Exception


_GIVEN_UP: ContextVar[_GivenUp | None] = ContextVar("trimtab_aiohttp_given_up", default=None)

given_up = _GIVEN_UP.get
"""What this task's context gave up last, for ``refuse_repetition``; None: nothing."""


def give_up(request: ClientRequest, error: BaseException) -> None:
    """A request ended with this error, and all that may be sent of it has been."""
    if request.method not in IDEMPOTENT_METHODS or isinstance(error, UNREACHED):
        return
    if isinstance(error, _REPEATED):
        _GIVEN_UP.set(_GivenUp(request, error))


def refuse_repetition(request: ClientRequest, given_up: _GivenUp) -> None:
    """A request comes after one that was given up.

    Raises:
        aiohttp.ClientError: that one's, if this is aiohttp's own repetition of it.
    """
    _GIVEN_UP.set(None)
    # The session's call is the same, though the object is another; its timer is all that the two share.
    timer, earlier = getattr(request, "_timer", None), given_up.request
    if timer is None or request is earlier or timer is not getattr(earlier, "_timer", None):
        return
    raise given_up.error
