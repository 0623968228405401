"""For programs that use aiohttp: client middleware that picks an endpoint for every request.

::

    async with Middleware(hosts=["*.shop"]) as balanced:
        async with aiohttp.ClientSession(middlewares=[balanced]) as session:
            async with session.get("http://orders.shop:8080/orders/7") as response:
                ...

Needs the extra ``aiohttp``.
"""

from __future__ import annotations

try:
    from trimtab.client.aiohttp_core import Middleware
    from trimtab.client.aiohttp_errors import Unavailable
except ImportError as error:
    raise ImportError(
        "trimtab.aiohttp needs aiohttp; install it with: pip install 'trimtab[aiohttp]'"
    ) from error

__all__ = ["Middleware", "Unavailable"]
