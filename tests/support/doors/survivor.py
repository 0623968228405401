"""A server that lives on while another is killed, and says what it executed."""

import threading
from collections import Counter

import grpc

from doors.servers import EchoServer


class Survivor(EchoServer):
    """Counts what it executes; refuses the calls in ``words`` of gRPC's own, if there are any."""

    def __init__(self, echo, name):
        self.executions = Counter()
        self.words = ""
        self._counting = threading.Lock()
        super().__init__(echo, name)

    def Say(self, request, context):  # noqa: N802 - gRPC's name
        with self._counting:
            self.executions[request.text] += 1
        if self.words:
            context.abort(grpc.StatusCode.UNAVAILABLE, self.words)
        return super().Say(request, context)
