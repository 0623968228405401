"""Probes of endpoints' load from a thread, for the policies that want them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from trimtab.balancer import Balancer, Node
from trimtab.client.probing import TIMEOUT_S, Probing
from trimtab.load_codec import PROBE, decode_answer
from trimtab.load_report import LoadReport

_IDLE_S = 10.0


class SyncProbes:
    """Sends them over the endpoints' own channels; see ``probing`` for how many.

    One daemon thread, which exists only while probes are wanted, sends one after the other: a sync
    channel that is used without blocking costs a thread for each endpoint.

    Args:
        balancer: who wants them.
        clock: seconds, monotonic.
    """

    def __init__(self, balancer: Balancer, clock: Callable[[], float]) -> None:
        self._balancer = balancer
        self._clock = clock
        self._probing = Probing()
        self._news = threading.Condition()
        self._queue: deque[Node] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    def send(self) -> None:
        """Let the thread send the probes that are wanted now."""
        wanted = self._balancer.take_probes()
        with self._news:
            if self._closed:
                return
            self._queue.extend(self._probing.admit(wanted, self._clock()))
            if not self._queue:
                return
            self._news.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="trimtab-probes", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._queue or self._closed, _IDLE_S)
                if self._closed or not self._queue:
                    self._thread = None
                    return
                node = self._queue.popleft()
            report, absent = _ask(node)
            with self._news:
                if report is None:
                    self._probing.failed(node, self._clock(), for_good=absent)
                else:
                    self._probing.answered(node)
            if report is not None:
                self._balancer.probed(node, report)

    def close(self) -> None:
        """Send no more."""
        with self._news:
            self._closed = True
            self._queue.clear()
            self._news.notify()


def _ask(node: Node) -> tuple[LoadReport | None, bool]:
    """What it says, and whether it has no such method."""
    try:
        probe: Any = node.transport.channel.unary_unary(PROBE, response_deserializer=decode_answer)
        report: LoadReport | None = probe(b"", timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return None, error.code() is grpc.StatusCode.UNIMPLEMENTED
    except ValueError:  # its channel was closed meanwhile
        return None, False
    return report, report is None
