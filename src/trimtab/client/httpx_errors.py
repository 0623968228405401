"""How an attempt without a response ended, from the errors of httpx and httpx2. Pure."""

from __future__ import annotations

from traceback import walk_tb
from typing import Any

from trimtab.client.http2_farewell import REFUSED_STREAM
from trimtab.client.http_attempts import Broke

_NOT_WRITTEN = "ConnectionInputs.SEND_HEADERS in state ConnectionState.CLOSED"
_CLOSED = "ConnectionState.CLOSED"


def broke(library: Any, error: BaseException) -> Broke:
    """What it means.

    Args:
        library: httpx or httpx2.
        error: one of its ``TransportError``.
    """
    if isinstance(error, library.ConnectError | library.ConnectTimeout):
        return Broke.UNREACHED
    if isinstance(error, library.RemoteProtocolError | library.LocalProtocolError):
        return _broke_rules(library, error)
    if isinstance(error, library.NetworkError):
        return Broke.LOST
    if isinstance(error, library.PoolTimeout):
        return Broke.LOCAL
    return Broke.TIMEOUT if isinstance(error, library.TimeoutException) else Broke.LOCAL


def is_callers(core: Any, error: BaseException) -> bool:
    """Whether code of the caller's raised it: a body that he reads from elsewhere with the same library.

    The library makes its own errors of those of the one below it, which these have left by then. What comes out
    of that one as it is was raised by something that it called.

    Args:
        core: httpcore or httpcore2.
        error: one of the library's ``TransportError``, as it was raised.
    """
    within = core.__name__
    for frame, _ in walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] == within:
            return True
    return False


def _broke_rules(library: Any, error: BaseException) -> Broke:
    """Somebody broke the protocol, or the server reset the stream, or left.

    The library calls it local, too, where h2 can't read what a server sent, and where a connection that a
    server left is written to.
    """
    below = error.__cause__  # httpcore's; it holds what h2 says: an event, or an error
    said: Any = below.args[0] if below is not None and below.args else None
    if getattr(said, "remote_reset", False) and said.error_code == REFUSED_STREAM:
        return Broke.REFUSED
    fault = said if isinstance(said, Exception) else below and below.__context__
    text = str(fault)
    if _NOT_WRITTEN in text:  # of this request: each has its own error, and sends headers once
        return Broke.UNREAD
    if isinstance(error, library.RemoteProtocolError) or _CLOSED in text:
        return Broke.LOST
    if type(fault).__name__ == "StreamClosedError" or (fault is not None and _was_read(fault)):
        return Broke.LOST
    return Broke.LOCAL


def _was_read(fault: BaseException) -> bool:
    """Whether h2 raised it over what the server sent, and not over what was to be sent."""
    return any(frame.f_code.co_name == "receive_data" for frame, _ in walk_tb(fault.__traceback__))
