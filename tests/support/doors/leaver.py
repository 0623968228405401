"""A server that leaves each connection after some requests, and tells which ones it has looked at."""

import threading
from collections import Counter

EVERY = 20


class Leaver:
    """What a ``Scripted`` server does; several may share one.

    It leaves no connection before all is done that it left undone on others: gRPC makes a call again once, and one
    that met a second GOAWAY there would fail.

    Args:
        answer: called with an ``Exchange`` to answer it.
        name_of: the request's own name, from its body.

    Attributes:
        executions: by name: how often it was looked at.
        farewells: connections left.
        unread: requests that came too late for their connection, and were not looked at.
    """

    def __init__(self, answer, name_of):
        self._answer = answer
        self._name_of = name_of
        self._lock = threading.Lock()
        self._seen = Counter()
        self._last = {}
        self._undone = set()
        self.executions = Counter()
        self.unread = 0

    @property
    def farewells(self):
        return len(self._last)

    def __call__(self, exchange):
        connection, name = exchange.h2, self._name_of(exchange.body)
        with self._lock:
            if exchange.stream > self._last.get(connection, exchange.stream):
                self.unread += 1
                if name not in self.executions:  # else it was made again before it came by here
                    self._undone.add(name)
                return
            self._seen[connection] += 1
            self.executions[name] += 1
            self._undone.discard(name)
            leaves = (
                connection not in self._last
                and self._seen[connection] >= EVERY
                and not self._undone
                and exchange.alone()
            )
            if leaves:
                self._last[connection] = exchange.stream
        if leaves:
            exchange.go_away()
        self._answer(exchange)
