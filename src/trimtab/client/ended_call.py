"""A sync call that ended without having left: an error, a call and a future at once.

gRPC's own errors of this kind are all three as well, and interceptors rely on it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc

LOCALLY_CANCELLED = "Locally cancelled by application!"


class EndedCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in stubs only
    """A terminal state: a status and a text.

    Args:
        code: not OK.
        details: why, for the caller.
        cancelled: whether the caller cancelled it.
    """

    def __init__(self, code: grpc.StatusCode, details: str, *, cancelled: bool = False) -> None:
        super().__init__(details)
        self._code = code
        self._details = details
        self._cancelled = cancelled

    def __reduce__(self) -> tuple[Any, ...]:
        """As it was made; as an exception is, it would be made of its text alone."""
        return _made, (self._code, self._details, self._cancelled)

    # grpc.Call

    def code(self) -> grpc.StatusCode:
        """The status."""
        return self._code

    def details(self) -> str:
        """The text."""
        return self._details

    def debug_error_string(self) -> str:
        """The text; nothing more is known."""
        return self._details

    def initial_metadata(self) -> tuple[Any, ...]:
        """Nothing was received."""
        return ()

    def trailing_metadata(self) -> tuple[Any, ...]:
        """Nothing was received."""
        return ()

    def is_active(self) -> bool:
        """It has ended."""
        return False

    def time_remaining(self) -> float:
        """None is left."""
        return 0.0

    def add_callback(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002 - gRPC's signature
        """False: it will not be called."""
        return False

    # grpc.Future

    def cancel(self) -> bool:
        """False: it has ended already."""
        return False

    def cancelled(self) -> bool:
        """Whether the caller cancelled it."""
        return self._cancelled

    def running(self) -> bool:
        """It has ended."""
        return False

    def done(self) -> bool:
        """It has ended."""
        return True

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - gRPC's signature
        """Raise this error, or ``grpc.FutureCancelledError``."""
        if self._cancelled:
            raise grpc.FutureCancelledError
        raise self

    def exception(self, timeout: float | None = None) -> Self:  # noqa: ARG002 - gRPC's signature
        """This error; raises ``grpc.FutureCancelledError`` if the caller cancelled it."""
        if self._cancelled:
            raise grpc.FutureCancelledError
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:  # noqa: ARG002
        """Where this error was raised; raises as ``exception`` does."""
        return self.exception().__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call at once: it has ended."""
        fn(self)

    # the iterator of a streaming response

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> NoReturn:
        raise self

    def __str__(self) -> str:
        return (
            f"<{type(self).__name__} of RPC that terminated with:\n"
            f"\tstatus = {self._code}\n"
            f'\tdetails = "{self._details}"\n'
            ">"
        )

    __repr__ = __str__


def _made(code: grpc.StatusCode, details: str, cancelled: bool) -> EndedCall:
    """One that crosses to another process."""
    return EndedCall(code, details, cancelled=cancelled)
