"""Asks an endpoint that has fallen silent for a sign of life, over the connection in question.

One question is under way as long as it stays unanswered: a call of the standard health check. Any
answer is one, "no such method" included, so servers need not have it. Nothing is asked of an endpoint
that answers its requests, or that has none. HTTP/2 pings can't take the question's place: servers of
every language end connections whose quiet calls are pinged more often than every five minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

METHOD = "/grpc.health.v1.Health/Check"
TIMEOUT_S = 20.0
_PAUSE_S = 1.0  # before the next one, where it ended without an answer

# How a call ends that nobody has answered.
_MUTE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)


class AioQuestions:
    """On an event loop.

    Args:
        loop: where they are asked.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: dict[grpc.aio.Channel, asyncio.Task[bool]] = {}
        self._closed = False

    def ask(
        self, channel: grpc.aio.Channel, alive: Callable[[], None], again: Callable[[], None]
    ) -> None:
        """Ask, unless it is being asked.

        Args:
            channel: the endpoint's.
            alive: called if it answers.
            again: called a while after it didn't, or the channel was closed meanwhile.
        """
        if channel in self._tasks:
            return
        task = self._tasks[channel] = asyncio.Task(_answers(channel), loop=self._loop)

        def ended(task: asyncio.Task[bool]) -> None:
            self._tasks.pop(channel, None)
            if self._closed:
                return
            # gRPC cancels whoever waits for a call of a channel that is closed.
            if not task.cancelled() and task.result():
                alive()
            else:
                self._loop.call_later(_PAUSE_S, again)

        task.add_done_callback(ended)

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        for task in self._tasks.values():
            task.cancel()


async def _answers(channel: grpc.aio.Channel) -> bool:
    question: Any = channel.unary_unary(METHOD)
    try:
        await question(b"", timeout=TIMEOUT_S, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        return error.code() not in _MUTE
    except grpc.aio.UsageError:  # the channel was closed
        return False
    return True


class SyncQuestions:
    """From one thread; answers come on gRPC's own, and ``close`` from any. Each dictionary step is atomic."""

    def __init__(self) -> None:
        self._asked: dict[grpc.Channel, Any] = {}

    def ask(
        self, channel: grpc.Channel, alive: Callable[[], None], again: Callable[[], None]
    ) -> None:
        """Ask, unless it is being asked; the arguments are those of ``AioQuestions.ask``."""
        if channel in self._asked:
            return
        try:
            question: Any = channel.unary_unary(METHOD)
            call = self._asked[channel] = question.future(
                b"", timeout=TIMEOUT_S, wait_for_ready=True
            )
        except ValueError:  # the channel was closed
            return

        def ended(call: Any) -> None:
            self._asked.pop(channel, None)
            if call.code() in _MUTE:
                again()
            else:
                alive()

        call.add_done_callback(ended)

    def close(self) -> None:
        """Ask no more."""
        for call in list(self._asked.values()):
            call.cancel()
