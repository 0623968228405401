"""An HTTP/1.1 server that answers with its name: a pod of the tests, as ``echo_process.Echo`` is for gRPC."""

import asyncio

from aiohttp import web

LONGEST_S = 5


class Http1Echo:
    """A request's path is the number of milliseconds that it takes."""

    def __init__(self, name):
        self.name = name
        self.cut_off = 0
        self._runner = None

    async def open(self, addresses):
        app = web.Application()
        app.router.add_get("/{work_ms}", self._who)
        self._runner = web.AppRunner(app, shutdown_timeout=LONGEST_S)
        await self._runner.setup()
        for address in addresses:
            host, _, port = address.rpartition(":")
            await web.TCPSite(self._runner, host, int(port)).start()
        return self._runner.addresses[0][1]

    async def close(self, _grace):
        """As servers do on SIGTERM: no new connection, idle ones are closed, requests under way finish."""
        await self._runner.cleanup()

    async def _who(self, request):
        done = asyncio.Event()
        work_s = int(request.match_info["work_ms"]) / 1e3
        asyncio.get_running_loop().call_later(work_s, done.set)
        try:
            await done.wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        return web.Response(text=self.name)
