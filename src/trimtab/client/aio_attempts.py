"""The asyncio interceptor that makes further attempts: retries and hedges of unary calls.

It stands below the caller's interceptors and above the one that waits for endpoints, so that each
attempt is placed anew. Only methods that were declared safe to run more than once pass through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from trimtab.attempt import Verdict
from trimtab.client.attempts import Attempts, Request, trail


class Retrying(grpc.aio.UnaryUnaryClientInterceptor):
    """See ``attempt.Course`` for the rules.

    Args:
        attempts: the channel's.
        clock: monotonic seconds.
    """

    def __init__(self, attempts: Attempts, clock: Callable[[], float]) -> None:
        self._attempts = attempts
        self._clock = clock

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        """Make attempts until one is the request's end; the others are cancelled."""
        details = client_call_details
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        if not self._attempts.declares(method):
            return await continuation(details, request)
        return await _Run(
            self._attempts.begin(method, details.timeout, self._clock()),
            self._clock,
            continuation,
            details,
            request,
        ).to_its_end()


class _Run:
    """One request's attempts."""

    def __init__(
        self,
        state: Request,
        clock: Callable[[], float],
        continuation: Any,
        details: Any,
        request: Any,
    ) -> None:
        self._state = state
        self._clock = clock
        self._continuation = continuation
        self._details = details
        self._request = request
        self._running: set[Any] = set()
        self._ended: asyncio.Queue[Any] = asyncio.Queue()

    async def to_its_end(self) -> Any:
        course = self._state.course
        last = None
        try:
            await self._start()
            while True:
                call = await self._next_end()
                if call is None:
                    if course.due(self._clock()):
                        await self._start()
                    elif not self._running:
                        return last
                    continue
                self._running.discard(call)
                last = call
                code = (await call.code()).value[0]
                trailing = await call.trailing_metadata()
                now = self._clock()
                verdict = course.ended(now, self._state.ended(now, code, trailing))
                if verdict is Verdict.FINAL:
                    return call
                if verdict is Verdict.AGAIN:
                    await self._start()
        finally:
            for call in self._running:
                call.cancel()

    async def _next_end(self) -> Any:
        """The attempt that ended; None: it is time to look whether another is due."""
        at = self._state.course.next_at
        try:
            async with asyncio.timeout(None if at is None else max(0.0, at - self._clock())):
                return await self._ended.get()
        except TimeoutError:
            return None

    async def _start(self) -> None:
        details = self._details
        state = self._state
        timeout = state.course.attempt_timeout(self._clock())
        attempt = grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )
        token = trail.set(state.trail)
        try:
            call = await self._continuation(attempt, self._request)
        finally:
            trail.reset(token)
        self._running.add(call)
        call.add_done_callback(self._ended.put_nowait)
