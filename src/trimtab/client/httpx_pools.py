"""The pools of an httpx client, one of the library's own transports for each endpoint."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import ref

from trimtab.balancer import Node


class Pools:
    """Makes endpoints' pools; each is told its address by every request.

    Args:
        make: makes one of the library's transports.
        backend: what to put around the sockets of its connections; None: nothing.
        read_timeout: the error of the library below for one.
        prepare: called with what the library below makes of each pool that has a ``backend``.

    """

    def __init__(
        self,
        make: Callable[[], Any],
        backend: Any,
        read_timeout: type[Exception],
        prepare: Callable[[Any], None],
    ) -> None:
        self._make = make
        self._backend = backend
        self._read_timeout = read_timeout
        self._prepare = prepare
        # By their ids. No ``WeakSet``: one that another thread adds to can't be read meanwhile.
        self._leaving: dict[int, ref[Any]] = {}

    @property
    def leaving(self) -> list[Any]:
        """Pools that had to be replaced; their connections end with the last response."""
        return [pool for each in list(self._leaving.values()) if (pool := each()) is not None]

    def _leave(self, pool: Any) -> None:
        leaving, key = self._leaving, id(pool)
        leaving[key] = ref(pool, lambda _pool: leaving.pop(key, None))

    def __call__(self, node: Node) -> Any:
        """A pool for this endpoint."""
        made = self._make()
        # httpcore's pool takes a backend; httpx's, which is around it, passes none on.
        within = getattr(made, "_pool", None)
        plain = getattr(within, "_network_backend", None)
        if self._backend is not None and within is not None and plain is not None:
            told = count()  # by several connections, in several threads: the first one counts

            def left() -> None:
                if next(told) == 0 and node.transport is made:
                    node.transport = self(node)
                    self._leave(made)

            within._network_backend = self._backend(plain, self._read_timeout, left)  # noqa: SLF001
            self._prepare(within)
        return made
