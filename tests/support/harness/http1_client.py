"""An HTTP/1.1 client that speaks as ``load_process`` wants: a GET for each call, over kept connections."""

import aiohttp

from harness.failed import Failed


class Http1Client:
    """One session for all targets."""

    def __init__(self):
        # Without a limit: the load is open loop.
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector)

    async def who(self, road, work_ms, within):
        """The name of the server that answered."""
        timeout = aiohttp.ClientTimeout(total=within)
        url, headers = f"http://{road['target']}/{work_ms}", road.get("metadata", {})
        try:
            async with self._session.get(url, headers=headers, timeout=timeout) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Failed(f"{type(error).__name__}: {error}") from None
        if answer.status != 200:
            raise Failed(f"{answer.status}: {text}")
        return text

    async def close(self):
        await self._session.close()
