"""Probes of endpoints' load on an event loop, for the policies that want them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from trimtab.balancer import Balancer, Node
from trimtab.client.probing import TIMEOUT_S, Probing
from trimtab.load_codec import PROBE, decode_answer


class AioProbes:
    """Sends them over the endpoints' own channels; see ``probing`` for how many.

    Args:
        balancer: who wants them.
        loop: where they are sent.
        clock: seconds, monotonic.
    """

    def __init__(
        self, balancer: Balancer, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._balancer = balancer
        self._loop = loop
        self._clock = clock
        self._probing = Probing()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self) -> None:
        """Begin the probes that are wanted now."""
        for node in self._probing.admit(self._balancer.take_probes(), self._clock()):
            task = asyncio.Task(self._ask(node), loop=self._loop)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, node: Node) -> None:
        report, absent = None, False
        probe: Any = node.transport.channel.unary_unary(PROBE, response_deserializer=decode_answer)
        try:
            report = await probe(b"", timeout=TIMEOUT_S)
            absent = report is None
        except grpc.aio.AioRpcError as error:
            absent = error.code() is grpc.StatusCode.UNIMPLEMENTED
        except grpc.aio.UsageError:  # its channel was closed meanwhile
            pass
        finally:
            if report is None:
                self._probing.failed(node, self._clock(), for_good=absent)
            else:
                self._probing.answered(node)
        if report is not None:
            self._balancer.probed(node, report)

    def close(self) -> None:
        """Let go of those under way."""
        for task in self._tasks:
            task.cancel()
