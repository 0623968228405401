"""Callers that put load on a channel, and what they look at."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from harness.waiting import eventually

CALLERS = 8


class Load:
    """Callers that call again and again, each waiting for its answer."""

    def __init__(self, channel, request):
        self.replies = []
        self.errors = []
        self._channel = channel
        self._request = request
        self._stop = threading.Event()
        self._callers = ThreadPoolExecutor(CALLERS)
        self._running = [self._callers.submit(self._call) for _ in range(CALLERS)]

    def _call(self):
        while not self._stop.is_set():
            try:
                self.replies.append(self._channel.say(self._request(), timeout=30).server)
            except grpc.RpcError as error:
                self.errors.append(error)

    def more(self, n):
        """Wait for so many replies more, and return them."""
        before = len(self.replies)
        eventually(lambda: len(self.replies) >= before + n, within=20, what=f"{n} replies more")
        return self.replies[before:]

    def stop(self):
        self._stop.set()
        for caller in self._running:
            caller.result()
        self._callers.shutdown()


def node_at(channel, port):
    return channel.balancer.nodes["127.0.0.1", port]


def connected(channel, n):
    def count():
        return sum(node.connected for node in channel.balancer.nodes.values()) == n

    eventually(count, within=10, what=f"{n} endpoints connected")
