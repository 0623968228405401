"""Ports for servers that must come back on the same one."""

import os
import random
import socket

# Below the ephemeral range: while such a server is down, no outgoing connection takes its port.
LOWEST, HIGHEST = 20_000, 32_000
# Nor does another worker of the test run: each draws from a part of its own.
PARTS = 4
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PART = (HIGHEST - LOWEST) // PARTS


def free_port():
    """A port of 127.0.0.1 that nobody has now and no client will be given."""
    draw = random.SystemRandom()
    first = LOWEST + WORKER % PARTS * PART
    for _ in range(100):
        port = draw.randrange(first, first + PART)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port between {first} and {first + PART}")
