"""One gRPC server of the demo, a process of its own: ``python -m trimtab.demo.server_process N``.

It works on ``workers`` requests at a time, a fixed time each; further ones wait in order, and those
whose caller has given up leave the queue. Messages are bytes: what is shown is balancing, not
protobuf.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio

from trimtab.demo.conversation import Conversation, converse
from trimtab.demo.experiment import Experiment
from trimtab.demo.figures import percentile
from trimtab.demo.messages import Close, Closed, Open, Opened, Serving, ToServer
from trimtab.server.aio import LoadReports

SERVICE = "shop.Orders"
METHOD = "Place"
MEASURED = b"m"
UNMEASURED = b"-"
TELL_EVERY_S = 0.25


class Orders:
    """The service: work, with a queue before it."""

    def __init__(self, workers: int, service_s: float) -> None:
        self._free = asyncio.Semaphore(workers)
        self._service_s = service_s
        self._clock = asyncio.get_running_loop().time
        self._overruns: list[float] = []
        self.received = 0
        self.measured = 0
        self.in_flight = 0
        self.first_at: float | None = None

    async def place(self, request: bytes, context: Any) -> bytes:  # noqa: ARG002 - gRPC's signature
        """Handle one request: wait for a worker, then keep it busy for the service time."""
        self.received += 1
        self.measured += request == MEASURED
        if self.first_at is None:
            self.first_at = self._clock()
        self.in_flight += 1
        try:
            async with self._free:
                begin = self._clock()
                await asyncio.sleep(self._service_s)  # noqa: TID251 - it is the work itself
                self._overruns.append(self._clock() - begin - self._service_s)
        finally:
            self.in_flight -= 1
        return b""

    def closed(self) -> Closed:
        """The final counts."""
        late = percentile(sorted(self._overruns), 0.99) or 0.0
        return Closed(self.measured, self.first_at, round(late * 1e3, 2))


async def listen(orders: Orders) -> tuple[grpc.aio.Server, int]:
    """Serve on a free port."""
    server = grpc.aio.server(interceptors=[LoadReports()])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(orders.place)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def serve(conversation: Conversation, workers: int, service_s: float) -> None:
    """Open and close as told."""
    loop = asyncio.get_running_loop()
    server: grpc.aio.Server | None = None
    orders: Orders | None = None
    ticking: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal ticking
        if orders is not None:
            conversation.tell(Serving(orders.received, orders.in_flight))
            ticking = loop.call_later(TELL_EVERY_S, tick)

    async for message in conversation.messages():
        match message:
            case Open():
                orders = Orders(workers, service_s)
                server, port = await listen(orders)
                conversation.tell(Opened(port))
                tick()
            case Close() if server is not None and orders is not None:
                await server.stop(None)
                if ticking is not None:
                    ticking.cancel()
                conversation.tell(orders.closed())
                server = orders = None
    if server is not None:
        await server.stop(None)


def main(index: int) -> None:
    """Be server ``index`` (from 0) of the standard experiment."""
    standard = Experiment()
    converse(ToServer, lambda talk: serve(talk, standard.workers, standard.service_time(index)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
