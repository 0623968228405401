"""What is aiohttp's own affair."""

import aiohttp
import pytest

from trimtab.aiohttp import Middleware

URL = "http://orders.shop:8080"


async def test_a_full_pool_is_not_the_endpoints_fault(servers):
    opened = servers.open("a", "b", "c")
    async with (
        Middleware(endpoints={"orders.shop:8080": [s.target for s in opened]}) as balanced,
        aiohttp.ClientSession(
            middlewares=[balanced],
            connector=aiohttp.TCPConnector(limit=1),
            timeout=aiohttp.ClientTimeout(total=5, connect=0.2),
        ) as session,
        session.get(URL + "/parts"),
    ):
        for _ in range(3):
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await session.get(URL + "/")
        (cluster,) = balanced._clusters
        assert all(node.connected for node in cluster.balancer.nodes.values())
