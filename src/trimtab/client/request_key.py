"""What a hashing policy goes by: the key of a request, said by the caller or in its metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from trimtab.errors import ConfigError

Metadata = Iterable[tuple[str, str | bytes]]
KeyFunction = Callable[[str, Metadata, Any], str | None]
"""From the method, the metadata or headers, and the request (None where it is a stream): the key, or None."""

_KEY: ContextVar[str | None] = ContextVar("trimtab_request_key", default=None)


@contextmanager
def request_key(key: str) -> Iterator[None]:
    """Calls that begin inside go by this key: with ``ring_hash``, all to one endpoint.

    It holds for the running task or thread, and for what it starts::

        with trimtab.request_key(user.id):
            answer = stub.Get(request)

    It goes before a channel's ``hash_key`` and the metadata that the policy's parameter of that name names.

    Raises:
        ConfigError: the key is no text.
    """
    if not isinstance(key, str | None):  # None takes back what an outer one said
        raise ConfigError(f"request_key: {key!r} is no text; give one, such as str(user.id)")
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


def checked(function: KeyFunction | None, where: str) -> KeyFunction | None:
    """A channel's ``hash_key``.

    Raises:
        ConfigError: it is no function.
    """
    if function is None or callable(function):
        return function
    raise ConfigError(
        f"{where}: hash_key={function!r} is no function of method, metadata and request; for a name in the "
        "metadata give policy=PolicyConfig.of('ring_hash', hash_key='x-user')"
    )


def key_of(
    metadata: Metadata | None,
    name: str,
    function: KeyFunction | None = None,
    method: str = "",
    request: Any = None,
) -> str | None:
    """The key of a request that is about to leave; None if it has none.

    Args:
        metadata: the call's.
        name: of the metadata that holds the key, in lower case; "": none does.
        function: asked before the metadata; what it raises goes to the caller.
        method: for ``function``.
        request: likewise.

    Raises:
        ConfigError: ``function`` gave something else than text or None.
    """
    said = _KEY.get()
    if said is None and function is not None:
        said = function(method, metadata or (), request)
        if not isinstance(said, str | None):
            raise ConfigError(f"hash_key of {method} gave {said!r}; give a str, or None for no key")
    if said is not None or not name:
        return said
    for key, value in metadata or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None


@contextmanager
def kept(key: str | None) -> Iterator[None]:
    """The call that this task begins within goes by this key: for interceptors."""
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)
