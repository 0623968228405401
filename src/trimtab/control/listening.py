"""A socket that listens on every interface, for IPv4 and IPv6 at once: asyncio's own take one of them each."""

from __future__ import annotations

import errno
import socket

_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def on_every_interface(port: int) -> socket.socket:
    """Listen at a port (0: any free one), by IPv4 alone where there is no IPv6.

    Raises:
        OSError: it can't be had.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("", port))
