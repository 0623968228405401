"""Blocking calls with further attempts: retries and hedges of unary calls."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

import grpc

from trimtab.attempt import Verdict
from trimtab.client.attempts import Attempts, Request, trail
from trimtab.client.observing import plain
from trimtab.client.sync_calls import Metadata, UnaryUnary


class RetryingUnaryUnary(UnaryUnary):
    """A unary method that may run more than once; see ``attempt.Course`` for the rules.

    ``future`` makes a single attempt: nobody waits who could begin another.
    """

    attempts: Attempts

    def __call__(  # type: ignore[override]  # the base's is ``block``, for speed
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response. Raises ``grpc.RpcError``, that of the last attempt."""
        return self._to_its_end(
            request, timeout, metadata, credentials, wait_for_ready, compression
        ).result()

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response and the attempt that gave it. Raises ``grpc.RpcError``."""
        call = self._to_its_end(
            request, timeout, metadata, credentials, wait_for_ready, compression
        )
        return call.result(), call

    def _to_its_end(
        self, request: Any, timeout: float | None, metadata: Metadata, *how: Any
    ) -> Any:
        observer = self._cluster.observer
        if observer is None:
            return self._run(request, timeout, metadata, *how)
        end = observer.call(self._cluster.balancer.cluster, plain(self.method))
        status = "CANCELLED"
        try:
            call = self._run(request, timeout, metadata, *how)
            status = call.code().name
        finally:
            end(status)
        return call

    def _run(self, request: Any, timeout: float | None, metadata: Metadata, *how: Any) -> Any:
        clock = self._cluster.clock
        state = self.attempts.begin(self.method, timeout, clock())
        course = state.course
        ended: SimpleQueue[Any] = SimpleQueue()
        running: set[Any] = set()
        last = None

        def start() -> None:
            call = self._attempt(state, clock(), request, metadata, how)
            running.add(call)
            call.add_done_callback(ended.put)

        try:
            start()
            while True:
                at = course.next_at
                try:
                    call = ended.get(timeout=None if at is None else max(0.0, at - clock()))
                except Empty:
                    if course.due(clock()):
                        start()
                    elif not running:
                        return last
                    continue
                running.discard(call)
                last = call
                now = clock()
                end = state.ended(now, call.code().value[0], call.trailing_metadata())
                verdict = course.ended(now, end)
                if verdict is Verdict.FINAL:
                    return call
                if verdict is Verdict.AGAIN:
                    start()
        finally:
            for call in running:
                call.cancel()

    def _attempt(
        self, state: Request, now: float, request: Any, metadata: Metadata, how: tuple[Any, ...]
    ) -> Any:
        token = trail.set(state.trail)
        try:
            timeout = state.course.attempt_timeout(now)
            return self.begin("future", request, timeout, metadata, *how)
        finally:
            trail.reset(token)
