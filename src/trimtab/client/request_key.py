"""What a hashing policy goes by: the key of a request, said by the caller or in its metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_KEY: ContextVar[str | None] = ContextVar("trimtab_request_key", default=None)


@contextmanager
def request_key(key: str) -> Iterator[None]:
    """Calls that begin inside go by this key: with ``ring_hash``, all to one endpoint.

    It holds for the running task or thread, and for what it starts::

        with trimtab.request_key(user.id):
            answer = stub.Get(request)

    It goes before the metadata that the policy's parameter ``hash_key`` names.
    """
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


def key_of(metadata: Iterable[tuple[str, str | bytes]] | None, name: str) -> str | None:
    """The key of a request that is about to leave; None if it has none.

    Args:
        metadata: the call's.
        name: of the metadata that holds the key, in lower case; "": none does.
    """
    said = _KEY.get()
    if said is not None or not name:
        return said
    for key, value in metadata or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None


def keep(key: str | None) -> None:
    """Say the key of the call that this task is about to begin: for interceptors."""
    _KEY.set(key)
