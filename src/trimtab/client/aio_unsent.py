"""Asyncio calls with one request and one response that leave again if they provably reached nobody.

gRPC's call asks one native call for everything. Where that one turns out to have reached nobody, this one
takes another native call in its place, in the very step of the loop in which the end is known. So nobody
sees the first one's end, and a call that ends well pays for next to nothing.

The names used are private to gRPC; ``missing_in_unary`` says whether they are what this module expects.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import grpc
import grpc.aio

from trimtab.attempt.course import MOST_UNSENT
from trimtab.client.aio_patience import patiently
from trimtab.client.observing import End, name_of
from trimtab.errors import NoEndpoints

_native: Any = importlib.import_module("grpc.aio._channel")
_cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")
_common: Any = importlib.import_module("grpc._common")
_serialize: Any = getattr(_common, "serialize", None)
_deserialize: Any = getattr(_common, "deserialize", None)
_timeout_to_deadline: Any = getattr(_native, "_timeout_to_deadline", None)
_build_census_context: Any = getattr(_cygrpc, "build_census_context", None)
_EOF: Any = getattr(_cygrpc, "EOF", None)
_Call: Any = getattr(_native, "UnaryUnaryCall", object)
_Calls: Any = getattr(_native, "UnaryUnaryMultiCallable", object)

# What gRPC's three constructors of such a call name: ``UnaryUnaryCall.__init__`` is all of them.
_MADE = (
    ("super", "__init__", "call", "_request", "cygrpc", "build_census_context", "_context", "create_task",
     "_invoke", "_invocation_task", "_init_unary_response_mixin"),
    ("_loop", "_cython_call", "tuple", "_metadata", "_request_serializer", "_response_deserializer"),
    ("_call_response",),
)  # fmt: skip
_USED = ("serialize", "_request", "_request_serializer", "_cython_call", "unary_unary", "_metadata",
         "_context", "cancelled", "cancel", "EOF", "is_ok", "deserialize", "_response_deserializer")  # fmt: skip
_HELD = (
    "_channel",
    "_method",
    "_request_serializer",
    "_response_deserializer",
    "_loop",
)


def missing_in_unary() -> str:
    """The first private name that is not as this module needs it; "" if all are."""
    made = (
        _Call.__init__,
        super(_Call, _Call).__init__,
        getattr(_Call, "_init_unary_response_mixin", None),
    )
    for step, names in zip(made, _MADE, strict=True):
        if set(getattr(getattr(step, "__code__", None), "co_names", ())) != set(names):
            return f"grpc.aio._call.UnaryUnaryCall.__init__: {step!r}"
    invoke = getattr(_Call, "_invoke", None)
    for name in _USED:
        if invoke is None or name not in invoke.__code__.co_names:
            return f"grpc.aio._call.UnaryUnaryCall._invoke: {name}"
    for name in _HELD:
        if name not in _Calls.__init__.__code__.co_names:
            return f"grpc.aio._channel.UnaryUnaryMultiCallable.{name}"
    for owner, name in (
        (_Calls, "_init_metadata"),
        (_native, "_timeout_to_deadline"),
    ):
        if not hasattr(owner, name):
            return f"{owner.__name__}.{name}"
    if UnaryUnaryCalls.__basicsize__ != _Calls.__basicsize__:  # made ones could not become ours
        return "grpc.aio._channel.UnaryUnaryMultiCallable.__dict__"
    return ""


class UnaryUnaryCall(_Call):  # type: ignore[misc]  # gRPC has no types here
    """See ``grpc.aio.UnaryUnaryCall``."""

    _unsent = 0
    _withheld: tuple[Any, ...] = ()

    def __init__(  # gRPC's own are three functions, which do just this
        self,
        calls: UnaryUnaryCalls,
        request: Any,
        deadline: float | None,
        metadata: Iterable[Any],
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
    ) -> None:
        self._left = (calls, deadline, credentials, wait_for_ready)
        self._loop = calls._loop  # noqa: SLF001 - a class of this module
        self._cython_call = self._place()
        self._metadata = tuple(metadata)
        self._request_serializer = calls._request_serializer  # noqa: SLF001 - likewise
        self._response_deserializer = calls._response_deserializer  # noqa: SLF001 - likewise
        self._request = request
        self._context = _build_census_context()
        self._call_response = self._invocation_task = self._loop.create_task(self._invoke())

    def _place(self, unsent: int = 0, *, there: bool = False) -> Any:
        calls, deadline, credentials, wait_for_ready = self._left
        return calls._channel.call(  # noqa: SLF001 - a class of this module
            calls._method,  # noqa: SLF001 - likewise
            deadline,
            credentials,
            wait_for_ready,
            calls._registered_call_handle,  # noqa: SLF001 - likewise
            unsent,
            there=there,
        )

    async def _invoke(self) -> Any:
        # As gRPC's own, which it doesn't call: that would be a coroutine more for every call.
        request = _serialize(self._request, self._request_serializer)
        while True:
            native = self._cython_call
            try:
                response = await native.unary_unary(request, self._metadata, self._context)
            except asyncio.CancelledError:
                if not self.cancelled():
                    self.cancel()
                return _EOF
            if native.is_ok():
                return _deserialize(response, self._response_deserializer)
            if not (self._reached_nobody(native) and self._leave_again()):
                return _EOF

    def _reached_nobody(self, native: Any) -> bool:
        """Whether this is what the picker found of the end that is being told."""
        calls, _, _, waits = self._left
        again = waits or self._unsent < MOST_UNSENT
        return again and calls._channel.unsent is native  # noqa: SLF001 - a class of this module

    def _leave_again(self) -> bool:
        calls = self._left[0]
        channel = calls._channel  # noqa: SLF001 - a class of this module
        if not self._unsent:
            self._watch(channel.several(calls._method))  # noqa: SLF001 - likewise
        channel.unsent = None
        self._unsent += 1
        try:
            there = bool(self._left[3]) and channel.must_wait(self._unsent)
            self._cython_call = self._place(self._unsent, there=there)
        except (NoEndpoints, grpc.aio.UsageError):  # all have left, or the channel was closed
            return False
        finally:
            withheld, self._withheld = self._withheld, ()
            for callback in withheld:
                self.add_done_callback(callback)
        return True

    def _watch(self, end: End | None) -> None:
        """Have the end told to who watches: before the caller, as that of each attempt."""
        if end is not None:

            def tell(_call: Any) -> None:
                end(name_of(self._cython_call._status.code()))  # noqa: SLF001 - as the picker does

            self._withheld = (tell, *self._withheld)

    def add_done_callback(self, callback: Any) -> None:
        """Call back when it has ended."""
        native = self._cython_call

        def end() -> None:
            if self._reached_nobody(native):
                self._withheld = (*self._withheld, callback)
            else:
                callback(self)

        native.add_done_callback(end)

    async def _ended(self) -> None:
        native = None
        while native is not self._cython_call:
            native = self._cython_call
            await native.status()

    async def initial_metadata(self) -> Any:
        """Those of the answer, with which they come."""
        await self._ended()
        return await super().initial_metadata()

    async def trailing_metadata(self) -> Any:
        """Those of the end."""
        await self._ended()
        return await super().trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """The status."""
        await self._ended()
        code: grpc.StatusCode = await super().code()
        return code

    async def details(self) -> str:
        """The status' text."""
        await self._ended()
        details: str = await super().details()
        return details

    async def debug_error_string(self) -> str:
        """The description of the error."""
        await self._ended()
        text: str = await super().debug_error_string()
        return text


class UnaryUnaryCalls(_Calls):  # type: ignore[misc]  # as above
    """See ``grpc.aio.UnaryUnaryMultiCallable``. Calls that pass through interceptors are gRPC's."""

    _registered_call_handle = 0  # releases of gRPC before it registered methods have none

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin a call."""
        # Where it has a choice, a call that waits for ready leaves at once, and again if it reached nobody.
        waits = wait_for_ready and self._channel.choices < 2  # noqa: PLR2004 - this one and another
        if self._interceptors or waits:
            with patiently(self) if wait_for_ready else nullcontext():
                return super().__call__(
                    request,
                    timeout=timeout,
                    metadata=metadata,
                    credentials=credentials,
                    wait_for_ready=wait_for_ready,
                    compression=compression,
                )
        deadline = None if timeout is None else _timeout_to_deadline(timeout)
        # Of no metadata gRPC makes an object to iterate over once, which takes as long as a choice.
        plain = metadata is None and compression is None
        return UnaryUnaryCall(
            self,
            request,
            deadline,
            () if plain else self._init_metadata(metadata, compression),
            credentials,
            wait_for_ready,
        )
