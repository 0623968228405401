"""Numbered work over gRPC: ``python -m chaos.work_grpc PORT PATH`` is a server; the doors are its clients.

No call waits for a connection (``wait_for_ready``), so that some reach nobody.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import grpc
import grpc.aio

import trimtab
import trimtab.aio
from chaos.work import (
    AGAIN,
    DEADLINE_S,
    PLAIN,
    Server,
    Told,
    Work,
    call_from_tasks,
    call_from_threads,
    killing,
    mixed,
)

SERVICE = "trimtab.chaos.Work"
RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": SERVICE, "method": AGAIN}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.005s",
                    "maxBackoff": "0.1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


async def serve(port: int, path: str) -> None:
    work = Work(path)

    async def do(request: bytes, _context: object) -> bytes:
        await work.do(request)
        return b""

    handler = grpc.unary_unary_rpc_method_handler(do)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {PLAIN: handler, AGAIN: handler}),)
    )
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)


def channel_to(servers: list[Server], make: Callable[..., Any]) -> Any:
    targets = [server.target for server in servers]
    return make("work", [("grpc.service_config", RETRIES)], endpoints=targets)


async def _on_loop(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    told = Told()
    async with channel_to(servers, trimtab.aio.insecure_channel) as channel:
        await channel.channel_ready()
        methods = {name: channel.unary_unary(f"/{SERVICE}/{name}") for name in calls}

        async def call(name: str, number: bytes) -> str | None:
            try:
                await methods[name](number, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return None

        with killing(servers, told, random):
            await call_from_tasks(call, mixed(calls, random), told)
    return told


def on_loop(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    """Callers that are tasks."""
    return asyncio.run(_on_loop(servers, calls, random))


def in_threads(servers: list[Server], calls: dict[str, int], random: Random) -> Told:
    """Callers that are threads."""
    told = Told()
    with channel_to(servers, trimtab.insecure_channel) as channel:
        grpc.channel_ready_future(channel).result(DEADLINE_S)
        methods = {name: channel.unary_unary(f"/{SERVICE}/{name}") for name in calls}

        def call(name: str, number: bytes) -> str | None:
            try:
                methods[name](number, timeout=DEADLINE_S)
            except grpc.RpcError as error:
                return str(error.code().name)
            return None

        with killing(servers, told, random):
            call_from_threads(call, mixed(calls, random), told)
    return told


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
