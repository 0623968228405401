"""A blocking call of one request and one response, from gRPC's C core into the caller's hands in one function.

gRPC's own way passes through nine functions and keeps, of each call, what only those that go on in other threads
need (a condition, a set, a list of callbacks). This one asks the core for the same
six operations; whatever does not end well is gRPC's own functions' to tell, so its errors are gRPC's.

The names used are private to gRPC; ``missing_in_blocking`` says whether they are what this module expects.
"""

# ruff: noqa: SLF001 - the hook

from __future__ import annotations

import importlib
import time
from types import FunctionType
from typing import Any

import grpc

_native: Any = importlib.import_module("grpc._channel")
_common: Any = getattr(_native, "_common", None)
_compression: Any = getattr(_native, "_compression", None)
_observability: Any = getattr(_native, "_observability", None)
_cygrpc: Any = getattr(_native, "cygrpc", None)
_Calls: Any = getattr(_native, "_UnaryUnaryMultiCallable", object)

# What the two functions of gRPC's that ``exchange`` stands for name.
_STANDS_FOR = {
    "_blocking": (
        "_prepare", "time", "perf_counter", "rpc_start_time", "_common", "decode", "_method", "method",
        "_target", "target", "_channel", "segregated_call", "cygrpc", "PropagationConstants",
        "GRPC_PROPAGATE_DEFAULTS", "_determine_deadline", "_credentials", "_context",
        "_registered_call_handle", "next_event", "_handle_event", "_response_deserializer",
    ),
    "_prepare": (
        "_start_unary_request", "_request_serializer", "_InitialMetadataFlags", "with_wait_for_ready",
        "_compression", "augment_metadata", "_RPCState", "_UNARY_UNARY_INITIAL_DUE", "cygrpc",
        "SendInitialMetadataOperation", "SendMessageOperation", "_EMPTY_FLAGS",
        "SendCloseFromClientOperation", "ReceiveInitialMetadataOperation", "ReceiveMessageOperation",
        "ReceiveStatusOnClientOperation",
    ),
}  # fmt: skip
_ENDS = {"_blocking", "_end_unary_response_blocking"}  # what the callers of these two name
_TAKEN = {
    "_start_unary_request": ("request", "timeout", "request_serializer"),
    "_handle_event": ("event", "state", "response_deserializer"),
    "_end_unary_response_blocking": ("state", "call", "with_call", "deadline"),
    "_determine_deadline": ("user_deadline",),
    "_deadline": ("timeout",),
}


def missing_in_blocking() -> str:
    """The first private name that is not as this module needs it; "" if all are."""
    for name, named in _STANDS_FOR.items():
        code = getattr(getattr(_Calls, name, None), "__code__", None)
        if set(getattr(code, "co_names", ())) != set(named):
            return f"grpc._channel._UnaryUnaryMultiCallable.{name}"
    for name, taken in _TAKEN.items():
        code = getattr(getattr(_native, name, None), "__code__", None)
        if code is None or code.co_varnames[: code.co_argcount] != taken:
            return f"grpc._channel.{name}"
    for module, owner, name in (
        ("_common", _common, "serialize"),
        ("_common", _common, "deserialize"),
        ("_observability", _observability, "_OBSERVABILITY_PLUGIN"),
    ):
        if not hasattr(owner, name):
            return f"grpc.{module}.{name}"
    return ""


def is_wrapped() -> bool:
    """Whether somebody, as New Relic does, has put a function of his own over gRPC's, to hear of its calls."""
    for name in ("__call__", "with_call"):
        own = vars(_Calls).get(name)
        # By its type: those of wrapt show what they wrap as their own.
        if type(own) is not FunctionType or set(own.__code__.co_names) != _ENDS:
            return True
    return False


if not missing_in_blocking():
    _serialize, _deserialize = _common.serialize, _common.deserialize
    _deadline, _earliest = _native._deadline, _native._determine_deadline
    _no_flags = _native._InitialMetadataFlags()
    _DEFAULTS = _cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS
    _SendMetadata = _cygrpc.SendInitialMetadataOperation
    _SendMessage = _cygrpc.SendMessageOperation
    _SendClose = _cygrpc.SendCloseFromClientOperation
    _ReceiveMetadata = _cygrpc.ReceiveInitialMetadataOperation
    _ReceiveMessage = _cygrpc.ReceiveMessageOperation
    _ReceiveStatus = _cygrpc.ReceiveStatusOnClientOperation


def exchange(
    native: Any,
    request: Any,
    timeout: float | None,
    metadata: Any,
    credentials: grpc.CallCredentials | None,
    wait_for_ready: bool | None,
    compression: grpc.Compression | None,
) -> tuple[Any, Any]:
    """What ``native.with_call`` does; what it gives beside the response has ``trailing_metadata()`` only.

    ``native`` is gRPC's own multicallable, the rest are what that takes.

    Raises:
        grpc.RpcError: gRPC's own.
    """
    if _observability._OBSERVABILITY_PLUGIN is not None:
        both: tuple[Any, Any] = native.with_call(
            request, timeout, metadata, credentials, wait_for_ready, compression
        )
        return both
    deadline = _earliest(None if timeout is None else _deadline(timeout))
    serialized = _serialize(request, native._request_serializer)
    if serialized is None:
        raise _native._start_unary_request(None, None, None)[2]
    flags = _no_flags if wait_for_ready is None else _no_flags.with_wait_for_ready(wait_for_ready)
    plain = metadata is None and compression is None
    sent = None if plain else _compression.augment_metadata(metadata, compression)
    message, status = _ReceiveMessage(0), _ReceiveStatus(0)
    operations = (
        _SendMetadata(sent, flags),
        _SendMessage(serialized, 0),
        _SendClose(0),
        _ReceiveMetadata(0),
        message,
        status,
    )
    call = native._channel.segregated_call(
        _DEFAULTS,
        native._method,
        None,
        deadline,
        metadata,
        None if credentials is None else credentials._credentials,  # type: ignore[attr-defined]
        ((operations, None),),
        native._context,
        native._registered_call_handle,
    )
    event = call.next_event()
    deserializer = native._response_deserializer
    if status.code() == 0:
        received = message.message()
        if received is not None:
            response = _deserialize(received, deserializer)
            if response is not None:
                return response, status
            deserializer = _failed
    return _ended(native, call, event, deserializer)


def _ended(native: Any, call: Any, event: Any, deserializer: Any) -> tuple[Any, Any]:
    """What gRPC makes of an end that is not a response."""
    state = _native._RPCState(_native._UNARY_UNARY_INITIAL_DUE, None, None, None, None)
    state.method, state.target = _common.decode(native._method), _common.decode(native._target)
    state.rpc_start_time = time.perf_counter()  # for a plugin that came meanwhile
    _native._handle_event(event, state, deserializer)
    both: tuple[Any, Any] = _native._end_unary_response_blocking(state, call, True, None)
    return both


def _failed(_received: bytes) -> None:
    """A deserializer that has failed before, and was complained of."""
