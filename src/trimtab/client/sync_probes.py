"""Probes of endpoints' load from a thread, for the policies that want them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
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
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Node | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def send(self) -> None:
        """Let the thread send the probes that are wanted now."""
        wanted = self._balancer.take_probes()
        with self._lock:
            if self._closed:
                return
            for node in self._probing.admit(wanted, self._clock()):
                self._queue.put(node)
            if self._thread is None and not self._queue.empty():
                thread = threading.Thread(target=self._run, name="trimtab-probes", daemon=True)
                with suppress(RuntimeError):  # no thread to be had: the next probe tries again
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while True:
            node = None
            with suppress(Empty):
                node = self._queue.get(timeout=_IDLE_S)
            if node is None or self._closed:
                with self._lock:
                    if self._closed or self._queue.empty():
                        self._thread = None
                        return
                continue
            report, absent = _ask(node)
            with self._lock:
                if report is None:
                    self._probing.failed(node, self._clock(), for_good=absent)
                else:
                    self._probing.answered(node)
            if report is not None:
                self._balancer.probed(node, report)

    def close(self) -> None:
        """Send no more. Takes no lock: a finaliser may come in between."""
        self._closed = True
        self._queue.put(None)


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
