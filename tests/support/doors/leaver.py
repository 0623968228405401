"""A server that leaves each connection after some requests, and tells which ones it has looked at."""

import threading
from collections import Counter

EVERY = 20


class Leaver:
    """What a ``Scripted`` server does; several may share one.

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
        self.executions = Counter()
        self.unread = 0

    @property
    def farewells(self):
        return len(self._last)

    def __call__(self, exchange):
        connection = exchange.h2
        with self._lock:
            if exchange.stream > self._last.get(connection, exchange.stream):
                self.unread += 1
                return
            self._seen[connection] += 1
            self.executions[self._name_of(exchange.body)] += 1
            leaves = self._seen[connection] == EVERY
            if leaves:
                self._last[connection] = exchange.stream
        if leaves:
            exchange.go_away()
        self._answer(exchange)
