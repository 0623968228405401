"""Ports for servers that must come back on the same one."""

import random
import socket

# Below the ephemeral range: while such a server is down, no outgoing connection takes its port.
LOWEST, HIGHEST = 20_000, 32_000


def free_port():
    """A port of 127.0.0.1 that nobody has now and no client will be given."""
    draw = random.SystemRandom()
    for _ in range(100):
        port = draw.randrange(LOWEST, HIGHEST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port between {LOWEST} and {HIGHEST}")
