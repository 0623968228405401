"""The asyncio door, on a loop in a thread of its own."""

import asyncio
import gc
import threading

import grpc
import grpc.aio

from doors.told import spec
from trimtab.client.aio_picking import PickingChannel
from trimtab.client.aio_public import PublicChannel

WITHIN_S = 10


class Loop:
    """Runs coroutines from the test's thread."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine):
        async def limited():
            async with asyncio.timeout(WITHIN_S):
                return await coroutine

        return asyncio.run_coroutine_threadsafe(limited(), self._loop).result()

    def do(self, function, *arguments, **more):
        async def call():
            return function(*arguments, **more)

        return self.run(call())

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Running:
    """A call that is under way."""

    def __init__(self, call, loop):
        self._call = call
        self._loop = loop

    def code(self):
        return self._loop.run(self._call.code())

    def details(self):
        return self._loop.run(self._call.details())

    def first(self):
        async def first():
            async for reply in self._call:
                return reply
            return None

        return self._loop.run(first())

    def rest(self):
        async def rest():
            return [reply async for reply in self._call]

        return self._loop.run(rest())

    def cancel(self):
        self._loop.do(self._call.cancel)

    def drop(self):
        async def drop():
            self._call = None
            gc.collect()

        self._loop.run(drop())


class LoopDoor:
    """Drives ``trimtab.aio.insecure_channel``."""

    def __init__(self, echo, kind):
        self._stubs = echo[1]
        self._kind = kind
        self._loop = Loop()
        self._channels = []
        self.drop_safe = kind is PickingChannel

    def open(self, endpoints, *, interceptors=(), **given):
        channel = self._loop.do(self._kind, spec(endpoints, given), interceptors)
        self._channels.append(channel)
        return LoopChannel(channel, self._stubs.EchoStub(channel), self._loop)

    def close(self):
        for channel in self._channels:
            self._loop.run(channel.close())
        self._loop.stop()

    @staticmethod
    def retry(attempts, failed):
        return Retry(attempts, failed)

    @staticmethod
    def answer(reply):
        return Answer(reply)


class LoopChannel:
    """One channel with its stub."""

    def __init__(self, channel, stub, loop):
        self.raw = channel
        self._stub = stub
        self._loop = loop

    @property
    def balancer(self):
        return self.raw.trimtab

    def update(self, snapshot):
        self.raw._cluster.updated(snapshot)

    def fail(self, reason):
        self.raw._cluster.failed(reason)

    def say(self, request, **more):
        async def say():
            return await self._stub.Say(request, **more)

        return self._loop.run(say())

    def begin(self, method, request, **more):
        call = getattr(self._stub, method)
        return Running(self._loop.do(call, request, **more), self._loop)

    def count(self, request, **more):
        async def count():
            return [reply async for reply in self._stub.Count(request, **more)]

        return self._loop.run(count())

    def gather(self, requests, **more):
        async def gather():
            return await self._stub.Gather(iter(requests), **more)

        return self._loop.run(gather())

    def talk(self, requests, **more):
        async def talk():
            return [reply async for reply in self._stub.Talk(iter(requests), **more)]

        return self._loop.run(talk())

    def state(self):
        return self.raw.get_state()

    def ready(self):
        self._loop.run(self.raw.channel_ready())

    def close(self, grace=None):
        self._loop.run(self.raw.close(grace))

    def run(self, coroutine):
        return self._loop.run(coroutine)

    @property
    def stub(self):
        return self._stub


class Retry(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, attempts, failed):
        self._attempts = attempts
        self._failed = failed

    async def intercept_unary_unary(self, continuation, details, request):
        for _ in range(self._attempts):
            call = await continuation(details, request)
            code = await call.code()
            if code is grpc.StatusCode.OK:
                return call
            self._failed.append(code)
        return call


class Answer(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, reply):
        self._reply = reply

    async def intercept_unary_unary(self, continuation, details, request):
        return self._reply


DOORS = {
    "loop": lambda echo: LoopDoor(echo, PickingChannel),
    "loop-public": lambda echo: LoopDoor(echo, PublicChannel),
}
