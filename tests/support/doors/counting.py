"""Servers that count what they execute, and what tests of further attempts do with them."""

import threading
from collections import Counter

import grpc
import pytest

from doors.servers import EchoServer
from doors.settled import connected


class CountingPod(EchoServer):
    """Fails every call with ``code`` while that is set; counts calls by their text.

    A stream that is to hold does so before its first message, one called ``later`` after it.

    Attributes:
        time_left: of each call, as it comes [s]; None: it has for ever.
    """

    def __init__(self, echo, name):
        self.code = None
        self.trailers = ()
        self.executions = Counter()
        self.time_left = []
        self._counting = threading.Lock()
        super().__init__(echo, name)

    def _enter(self, request, context):
        with self._counting:
            self.executions[request.text] += 1
            self.time_left.append(context.time_remaining())
        if self.code is not None:
            context.set_trailing_metadata(self.trailers)
            context.abort(
                next(c for c in grpc.StatusCode if c.value[0] == self.code), f"{self.name} fails"
            )

    def Say(self, request, context):  # noqa: N802 - gRPC's name
        self._enter(request, context)
        return super().Say(request, context)

    def Count(self, request, context):  # noqa: N802
        self._enter(request, context)
        hold = type(request)(hold=True)
        if request.hold:
            self._answer(hold, context)
        for number in range(request.replies):
            if number == 1 and request.text == "later":
                self._answer(hold, context)
            yield self._reply(text=request.text, server=self.name)
        if request.fail_with:
            self._answer(type(request)(fail_with=request.fail_with), context)


def opened(door, pods, **given):
    return connected(
        door.open([pod.target for pod in pods], policy="round_robin", **given), len(pods)
    )


def executions(pods):
    return sum((pod.executions for pod in pods), Counter())


def code_of(channel, request, **more):
    with pytest.raises(grpc.RpcError) as caught:
        channel.say(request, **more)
    return caught.value.code()
