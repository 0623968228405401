"""What instrumentation wraps around the transports of httpx and httpx2, wrapped once around a request of ours.

OpenTelemetry wraps the method that sends a request, on the library's own transport. Such transports are an
endpoint's pool here, so the wrapper would tell of attempts. Pools go past it, and the whole request goes
through it. Wrappers are made by wrapt, which keeps what it calls, ``wrapper(wrapped, instance, args, kwargs)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any


def own_of(transport: type, method: str) -> Any:
    """The method as the library wrote it; None: it can't be seen for what stands in its place."""
    found = inspect.unwrap(getattr(transport, method))
    owner = next(each for each in transport.__mro__ if method in vars(each))
    return found if _package(found) == _package(owner) else None


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", "")).partition(".")[0]


def unwrapped(transport: type, method: str) -> Any:
    """The same transport, with the method as the library wrote it."""
    own = own_of(transport, method)
    return type(transport.__name__, (transport,), {} if own is None else {method: own})


def is_wrapped(patched: Any, own: Any) -> bool:
    """Whether nothing but such wrappers is around the library's own function."""
    while hasattr(patched, "_self_wrapper"):
        patched = patched.__wrapped__
    return patched is own


def through(patched: Any, instance: Any, send: Callable[[Any], Any], request: Any) -> Any:
    """What ``send(request)`` gives, through the wrappers of ``patched``, the outermost first."""
    wrappers = []
    while (wrapper := getattr(patched, "_self_wrapper", None)) is not None:
        wrappers.append(wrapper)
        patched = patched.__wrapped__
    for wrapper in reversed(wrappers):
        send = partial(_call, wrapper, send, instance)
    return send(request)


def _call(wrapper: Any, wrapped: Any, instance: Any, *args: Any, **more: Any) -> Any:
    return wrapper(wrapped, instance, args, more)
