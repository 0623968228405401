"""The door for threads."""

import grpc

from doors.told import spec
from trimtab.client.grpc_sync import BalancedChannel
from trimtab.client.sync_cluster import ask_by_call, ask_by_subscription

WITHIN_S = 10


class Running:
    """A call that is under way."""

    def __init__(self, call):
        self._call = call

    def code(self):
        try:
            return self._call.code()
        except grpc.RpcError as error:
            return error.code()

    def details(self):
        return self._call.details()

    def first(self):
        return next(self._call)

    def rest(self):
        return list(self._call)

    def cancel(self):
        self._call.cancel()

    def drop(self):
        self._call = None


def ask_late(channel):
    """Like a subscription whose news are on the way: each answer is the one before."""
    now = ask_by_call(channel)
    last = [now(False)]

    def ask(connect):
        said, last[0] = last[0], now(connect)
        return said

    return ask


class ThreadDoor:
    """Drives ``trimtab.insecure_channel``."""

    drop_safe = True

    def __init__(self, echo, ask):
        self._stubs = echo[1]
        self._ask = ask
        self._channels = []

    def open(self, endpoints, *, interceptors=(), **given):
        return ThreadChannel(BalancedChannel(spec(endpoints, given), self._ask), interceptors, self)

    def keep(self, channel):
        self._channels.append(channel)

    def stub(self, channel):
        return self._stubs.EchoStub(channel)

    def close(self):
        for channel in self._channels:
            channel.close()

    @staticmethod
    def retry(attempts, failed):
        return Retry(attempts, failed)

    @staticmethod
    def answer(reply):
        return Answer(reply)


class ThreadChannel:
    """One channel with its stub."""

    def __init__(self, channel, interceptors, door):
        self.raw = channel
        door.keep(channel)
        self._stub = door.stub(grpc.intercept_channel(channel, *interceptors))

    @property
    def balancer(self):
        return self.raw.trimtab

    def update(self, snapshot):
        self.raw._cluster.updated(snapshot)

    def fail(self, reason):
        self.raw._cluster.failed(reason)

    def say(self, request, **more):
        return self._stub.Say(request, **more)

    def begin(self, method, request, **more):
        call = getattr(self._stub, method)
        return Running((call.future if method in {"Say", "Gather"} else call)(request, **more))

    def count(self, request, **more):
        return list(self._stub.Count(request, **more))

    def gather(self, requests, **more):
        return self._stub.Gather(iter(requests), **more)

    def talk(self, requests, **more):
        return list(self._stub.Talk(iter(requests), **more))

    def state(self):
        return self.raw._cluster.availability.connectivity

    def ready(self):
        grpc.channel_ready_future(self.raw).result(WITHIN_S)

    def close(self):
        self.raw.close()


class Retry(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, attempts, failed):
        self._attempts = attempts
        self._failed = failed

    def intercept_unary_unary(self, continuation, details, request):
        for _ in range(self._attempts):
            outcome = continuation(details, request)
            if outcome.code() is grpc.StatusCode.OK:
                return outcome
            self._failed.append(outcome.code())
        return outcome


class Answer(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, reply):
        self._reply = reply

    def intercept_unary_unary(self, continuation, details, request):
        return self._reply


DOORS = {
    "threads": lambda echo: ThreadDoor(echo, ask_by_call),
    "threads-public": lambda echo: ThreadDoor(echo, ask_by_subscription),
}
