"""Real servers on loopback, in this process, that say what they saw."""

import collections
import threading
from concurrent import futures

import grpc

LONGEST_S = 20


class Servers:
    """Opens servers; closes what is still open."""

    def __init__(self, echo):
        self._echo = echo
        self._open = []

    def open(self, *names, port=0, **more):
        made = [EchoServer(self._echo, name, port, **more) for name in names]
        self._open.extend(made)
        return made if len(made) > 1 else made[0]

    def close(self):
        for server in self._open:
            server.stop()


class EchoServer:
    """One server: one pod of the tests."""

    def __init__(self, echo, name, port=0, *, options=None, credentials=None, health=None):
        messages, stubs = echo
        self._reply = messages.Reply
        self.name = name
        self.received = 0
        self.peers = set()
        self.callers = collections.Counter()
        self.cancelled = 0
        self.holding = 0
        self.let_go = threading.Event()
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
        stubs.add_EchoServicer_to_server(self, self._server)
        if health is not None:
            health.add_to(self._server)
        where = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(where)
        else:
            self.port = self._server.add_secure_port(where, credentials)
        self._server.start()

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    def stop(self, grace=None):
        """Stop; returns at once unless there is a grace."""
        self.let_go.set()
        self._server.stop(grace).wait(LONGEST_S)

    def drain(self, grace):
        """Begin to stop: no new calls, those in flight may finish."""
        return self._server.stop(grace)

    def _answer(self, request, context):
        if request.hold:
            with self._lock:
                self.holding += 1
            ended = threading.Event()
            if not context.add_callback(ended.set):
                ended.set()
            while not self.let_go.wait(0.005) and not ended.is_set():
                pass
            if ended.is_set():
                with self._lock:
                    self.cancelled += 1
        if request.fail_with:
            code = next(c for c in grpc.StatusCode if c.value[0] == request.fail_with)
            context.abort(code, f"{self.name} was asked to fail")
        seen = dict(context.invocation_metadata())
        return self._reply(text=request.text, server=self.name, seen=seen.get("x-test", ""))

    def _count(self, context):
        with self._lock:
            self.peers.add(context.peer())
            for name in context.auth_context().get("x509_subject_alternative_name", ()):
                self.callers[name.decode()] += 1
            self.received += 1

    def Say(self, request, context):  # noqa: N802 - gRPC's name
        self._count(context)
        return self._answer(request, context)

    def Count(self, request, context):  # noqa: N802
        self._count(context)
        for _ in range(request.replies):
            yield self._reply(text=request.text, server=self.name)
        if request.hold or request.fail_with:
            self._answer(request, context)

    def Gather(self, requests, context):  # noqa: N802
        self._count(context)
        taken = list(requests)
        last = self._answer(taken[-1], context)
        last.text = " ".join(r.text for r in taken)
        return last

    def Talk(self, requests, context):  # noqa: N802
        self._count(context)
        for request in requests:
            yield self._answer(request, context)
