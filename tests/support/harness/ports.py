"""Ports for servers that must come back on the same one."""

import os
import random
import socket
from collections import deque

# Below the ephemeral range: while such a server is down, no outgoing connection takes its port.
LOWEST, HIGHEST = 20_000, 32_000
# Nor does another worker of the test run: each draws from a part of its own.
PARTS = 4
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PART = (HIGHEST - LOWEST) // PARTS
FIRST = LOWEST + WORKER % PARTS * PART
# One after the other: of two that are drawn before either is taken, each is another.
_NEXT = deque(random.SystemRandom().sample(range(FIRST, FIRST + PART), PART))


def free_port():
    """A port of 127.0.0.1 that nobody has now, that no client will be given, and no other call for long."""
    for _ in range(PART):
        port = _NEXT[0]
        _NEXT.rotate(-1)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port between {FIRST} and {FIRST + PART}")
