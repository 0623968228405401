"""Calls whose request is a stream, over every door and in every style that it has; servers that note what they got."""

import asyncio

import grpc

from doors import loop, threads
from doors.servers import EchoServer

WITHIN_S = 10


class StreamPod(EchoServer):
    """Notes what each of its calls got, in order.

    Attributes:
        fails_after: so many messages, as UNAVAILABLE; None: it doesn't.
        fails: so often.
        trailers: of those.
        answers_first: ``Talk`` has replied once before that, "headers": it has sent its initial metadata.
        hangs: it reads nothing.
        runs: of each call the texts that came.
        ended: those whose caller has half-closed them.
    """

    def __init__(self, echo, name):
        self.fails_after = None
        self.fails = 1000
        self.trailers = ()
        self.answers_first = None
        self.hangs = False
        self.runs = []
        self.ended = []
        self._request = echo[0].Request
        super().__init__(echo, name)

    def _taken(self, requests, context):
        run = []
        with self._lock:
            self.runs.append(run)
        if self.hangs:
            self._answer(self._request(hold=True), context)
        if self.answers_first == "headers":
            context.send_initial_metadata((("x-answers", self.name),))
        for request in requests:
            run.append(request.text)
            yield run
            if len(run) == self.fails_after and len(self.runs) <= self.fails:
                context.set_trailing_metadata(self.trailers)
                context.abort(grpc.StatusCode.UNAVAILABLE, f"{self.name} fails")
        self.ended.append(run)

    def Gather(self, requests, context):  # noqa: N802 - gRPC's name
        run = []
        for run in self._taken(requests, context):  # noqa: B007 - the last one counts
            pass
        return self._reply(text=" ".join(run), server=self.name)

    def Talk(self, requests, context):  # noqa: N802
        run = []
        for run in self._taken(requests, context):
            if self.answers_first == "reply" and len(run) == 1:
                yield self._reply(text="first", server=self.name)
        yield self._reply(text=" ".join(run), server=self.name)


class Streams:
    """Calls of one door in one style.

    Args:
        echo: the generated modules.
        door: a name of ``DOORS``.
        style: ``iterator``, ``async`` or ``written``.
    """

    def __init__(self, echo, door, style):
        self.door = DOORS[door](echo)
        self.style = style
        self.threads = door in threads.DOORS
        self._stubs = echo[1]
        self._natives = []

    def open(self, pods, **given):
        targets = None if pods is None else [pod.target for pod in pods]
        self.channel = self.door.open(targets, policy="round_robin", **given)
        self.stub = self._stubs.EchoStub(self.channel.raw)
        return self.channel

    def made(self, native):
        """The stub of a channel of gRPC's own, closed with the door."""
        self._natives.append(native)
        return self._stubs.EchoStub(native)

    def close(self):
        for native in self._natives:
            if self.threads:
                native.close()
            else:
                self.channel.run(native.close())
        self.door.close()

    def ask(self, arity, requests, **more):
        """The texts of all replies; ``requests`` is an iterable."""
        more = {"timeout": WITHIN_S, **more}
        if self.threads:
            call = getattr(self.stub, arity)(iter(requests), **more)
            return [call.text] if arity == "Gather" else [reply.text for reply in call]
        return self.channel.run(self._asked(arity, requests, more))

    def ask_fed(self, arity, fed):
        """The same, of the requests that a queue gives until it gives None."""
        if self.threads:
            return self.ask(arity, iter(fed.get, None))
        return self.channel.run(self._asked_fed(arity, taken(fed)))

    async def _asked_fed(self, arity, requests):
        if self.style != "written":
            call = getattr(self.stub, arity)(requests, timeout=WITHIN_S)
        else:
            call = getattr(self.stub, arity)(timeout=WITHIN_S)
            async for request in requests:
                await call.write(request)
            await call.done_writing()
        return await self._read(arity, call)

    async def _asked(self, arity, requests, more):
        call = self.begun(arity, requests, more)
        if self.style == "written":
            for request in requests:
                await call.write(request)
            await call.done_writing()
        return await self._read(arity, call)

    @staticmethod
    async def _read(arity, call):
        if arity == "Gather":
            return [(await call).text]
        return [reply.text async for reply in call]

    def begun(self, arity, requests, more):
        """A call, on the loop."""
        given = {"async": lambda: each(requests), "iterator": lambda: iter(requests)}.get(
            self.style
        )
        return getattr(self.stub, arity)(*([given()] if given else []), **more)


async def each(requests):
    """The same, as an asynchronous iterator."""
    for request in requests:
        yield request


async def taken(fed):
    """What a queue of threads gives until it gives None."""
    while (request := await asyncio.to_thread(fed.get)) is not None:
        yield request


DOORS = {**threads.DOORS, **loop.DOORS}
STYLES = [
    (door, style)
    for door in DOORS
    for style in (["iterator"] if door in threads.DOORS else ["iterator", "async", "written"])
]
