"""Servers that answer with their name (gRPC, or ``http1``), all in this process: ``python -m harness.echo_process``.

A request's payload is the number of milliseconds it takes. Commands: ``open`` a server, ``close`` it
(new calls are refused, those under way finish), ``close_all`` at once.
"""

import asyncio

import grpc.aio

from harness.conversation import read_commands, tell
from harness.echo_service import METHOD, SERVICE
from trimtab.server import ServerLoad, add_load_report_service
from trimtab.server.aio import LoadReports


class Echo:
    """One server: one pod of the tests.

    With ``at_once`` more requests than that wait; ``utilization`` is what it says of itself, whatever it does.
    """

    def __init__(
        self,
        name,
        slower_ms=0,
        *,
        failing=False,
        at_once=1_000_000,
        options=(),
        out_of_band=False,
        utilization=None,
    ):
        self.name = name
        self._failing = failing
        self._slower_s = slower_ms / 1e3
        self._places = asyncio.Semaphore(at_once)
        self.cut_off = 0
        reports = [LoadReports()] if out_of_band else []
        if utilization is not None:
            reports = [LoadReports(ServerLoad(utilization=lambda: utilization))]
        self._server = grpc.aio.server(interceptors=reports, options=list(map(tuple, options)))
        if out_of_band:
            add_load_report_service(self._server, reports[0].load, least_interval_s=0.1)
        handler = grpc.unary_unary_rpc_method_handler(self._who)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )

    async def open(self, addresses):
        port, *_ = [self._server.add_insecure_port(address) for address in addresses]
        await self._server.start()
        return port

    async def close(self, grace):
        await self._server.stop(grace)

    async def _who(self, request, context):
        if self._failing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"{self.name} is broken")
        try:
            async with self._places:
                done = asyncio.Event()
                asyncio.get_running_loop().call_later(int(request) / 1e3 + self._slower_s, done.set)
                await done.wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        return self.name.encode()


def _echo(name, *, http1=False, **how):
    if http1:
        from harness.http1_echo import Http1Echo  # noqa: PLC0415 - interpreters without aiohttp

        return Http1Echo(name)
    return Echo(name, **how)


async def serve():
    echoes = {}
    async for command in read_commands():
        name = command.pop("name", None)
        match command.pop("do"):
            case "open":
                addresses = command.pop("addresses")
                echoes[name] = _echo(name, **command)
                port = await echoes[name].open(addresses)
                tell({"opened": name, "port": port})
            case "close":
                await echoes[name].close(command["grace"])
                tell({"closed": name, "cut_off": echoes[name].cut_off})
            case "close_all":
                await close_all(echoes)
                tell({"all_closed": True})
    await close_all(echoes)


async def close_all(echoes):
    for name in list(echoes):
        await echoes.pop(name).close(0)


if __name__ == "__main__":
    asyncio.run(serve())
