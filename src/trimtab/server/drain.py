"""The end of a server that loses no request: not ready, wait until everybody knows, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue

import grpc
import grpc.aio

from trimtab.server.readiness import Readiness

_log = logging.getLogger("trimtab.server")

PROPAGATION_S = 5.0
GRACE_S = 30.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK_S = 0.1


async def drain(
    server: grpc.aio.Server,
    readiness: Readiness | None = None,
    *,
    propagation_s: float = PROPAGATION_S,
    grace_s: float = GRACE_S,
) -> None:
    """Stop an asyncio server so that no request is lost.

    Args:
        server: still serving.
        readiness: ended first: it is not ready, and stays so.
        propagation_s: how long new requests are still taken [s], until every client and proxy has
            heard that this pod leaves. kube-proxy, ingresses and clients of other makes need
            seconds; the pod's termination grace period must be longer than both times together.
        grace_s: how long requests in flight may take after that [s]; what is left is cancelled.
    """
    begin(readiness, propagation_s)
    if await server.wait_for_termination(propagation_s):  # True: the time is over
        await server.stop(grace_s)


def drain_blocking(
    server: grpc.Server,
    readiness: Readiness | None = None,
    *,
    propagation_s: float = PROPAGATION_S,
    grace_s: float = GRACE_S,
) -> None:
    """``drain`` for a ``grpc.server``; returns when it has stopped."""
    begin(readiness, propagation_s)
    if server.wait_for_termination(propagation_s):  # True: the time is over
        server.stop(grace_s).wait()


async def serve_until_signal(
    server: grpc.aio.Server,
    readiness: Readiness | None = None,
    *,
    propagation_s: float = PROPAGATION_S,
    grace_s: float = GRACE_S,
    signals: Sequence[signal.Signals] = SIGNALS,
) -> None:
    """Wait for a signal (Kubernetes sends SIGTERM), then ``drain``. For the end of ``main``."""
    with listening(signals) as told:
        await told.wait()
        await drain(server, readiness, propagation_s=propagation_s, grace_s=grace_s)


def serve_until_signal_blocking(
    server: grpc.Server,
    readiness: Readiness | None = None,
    *,
    propagation_s: float = PROPAGATION_S,
    grace_s: float = GRACE_S,
    signals: Sequence[signal.Signals] = SIGNALS,
) -> None:
    """``serve_until_signal`` for a ``grpc.server``; in the main thread, as signals need it."""
    # No Event: the handler runs in the thread that waits, where its lock may be held for a moment,
    # and would wait for itself for ever.
    told: SimpleQueue[None] = SimpleQueue()
    before = {number: signal.signal(number, lambda *_: told.put(None)) for number in signals}
    try:
        _wait(told)
        drain_blocking(server, readiness, propagation_s=propagation_s, grace_s=grace_s)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(told: SimpleQueue[None]) -> None:
    """Looks up now and then: a signal that comes just before a thread blocks has its handler run once it goes on (grpc/grpc#19464)."""
    while True:
        try:
            told.get(timeout=_LOOK_S)
        except Empty:
            continue
        return


@contextmanager
def listening(signals: Sequence[signal.Signals]) -> Iterator[asyncio.Event]:
    """In a task of the main thread's loop: what is set when one of the signals comes."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, told.set)
    try:
        yield told
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def begin(readiness: Readiness | None, propagation_s: float) -> None:
    """The first step of every drain: not ready, for good."""
    if readiness is not None:
        readiness.end()
    _log.info("draining: not ready; new requests are taken for %g s more", propagation_s)
