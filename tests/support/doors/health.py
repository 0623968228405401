"""The standard health service, as a pod has it that says how it is."""

import threading

import grpc

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING = 1, 2
LONGEST_S = 20


class HealthService:
    """Answers ``Watch``; everything is SERVING until it is told otherwise.

    Attributes:
        asked: the names that were asked for.
        peers: who asked.
    """

    def __init__(self):
        self.asked = set()
        self.peers = set()
        self._status = SERVING
        self._news = threading.Condition()

    def say(self, status):
        """Tell all that watch."""
        with self._news:
            self._status = status
            self._news.notify_all()

    def add_to(self, server):
        watch = grpc.unary_stream_rpc_method_handler(self._watch)
        handler = grpc.method_handlers_generic_handler(SERVICE, {"Watch": watch})
        server.add_generic_rpc_handlers((handler,))

    def _watch(self, request, context):
        self.asked.add(request[2:].decode())  # HealthCheckRequest.service is field 1, a text
        self.peers.add(context.peer())
        gone = threading.Event()
        context.add_callback(lambda: self._wake(gone))
        told = None
        while not gone.is_set():
            with self._news:
                self._news.wait_for(lambda: gone.is_set() or self._status != told, LONGEST_S)  # noqa: B023
                told = self._status
            yield bytes([0x08, told])  # HealthCheckResponse.status is field 1, a number

    def _wake(self, gone):
        with self._news:
            gone.set()
            self._news.notify_all()
