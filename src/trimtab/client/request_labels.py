"""Which endpoints a request may go to, by their labels, as the caller says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from trimtab.errors import ConfigError
from trimtab.policies.selection import Labels

_LABELS: ContextVar[Labels | None] = ContextVar("trimtab_request_labels", default=None)

wanted_labels = _LABELS.get
"""The labels that calls which begin now want; None: any endpoint will do."""


@contextmanager
def request_labels(labels: Mapping[str, str]) -> Iterator[None]:
    """Calls that begin inside go to endpoints that have all of these labels.

    It holds for the running task or thread, and for what it starts, and replaces what an outer
    ``with`` said::

        with trimtab.request_labels({"shard": shard_of(user)}):
            answer = stub.Get(request)

    A call whose labels no endpoint has fails with UNAVAILABLE and the known values, or waits for
    one if it waits for ready. The channel's own ``labels=`` hold besides.

    Raises:
        ConfigError: a label's name or value is no text.
    """
    token = _LABELS.set(frozenset(texts("request_labels", labels).items()) or None)
    try:
        yield
    finally:
        _LABELS.reset(token)


def texts(where: str, labels: Mapping[str, str]) -> Mapping[str, str]:
    """The labels, if they are a mapping of texts to texts.

    Raises:
        ConfigError: they are not.
    """
    if not isinstance(labels, Mapping) or not all(
        isinstance(text, str) for pair in labels.items() for text in pair
    ):
        raise ConfigError(
            f"{where}: labels={labels!r} is no mapping of texts to texts, such as {{'shard': '7'}}"
        )
    return dict(labels)
