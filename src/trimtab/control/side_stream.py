"""A stream beside discovery: load reports, or questions for the clients' status."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

import grpc
import grpc.aio

from trimtab.control import metrics
from trimtab.control.limits import RequestRate
from trimtab.control.logs import printable
from trimtab.control.stream import Call, Ending
from trimtab.errors import ProtocolError
from trimtab.telemetry import Counters

_LOG = logging.getLogger(__name__)
_CLIENT_CLOSED = Ending("client_closed", grpc.StatusCode.OK)


class SideStream(ABC):
    """One stream from its first byte to its end. What goes wrong ends this one and no other.

    Args:
        call: the transport.
        counters: what is counted.
        clock: loop time [s].
        rate: how often the client may send.

    Attributes:
        what: the stream's purpose, for the log.
    """

    what = ""

    def __init__(
        self, call: Call, counters: Counters, clock: Callable[[], float], rate: RequestRate
    ) -> None:
        self.call = call
        self.counters = counters
        self._clock = clock
        self._rate = rate
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    @abstractmethod
    async def answer(self, request: bytes) -> None:
        """Take in a request, and write what there is to say to it.

        Raises:
            ProtocolError: it can't be read, or exceeds a limit.
        """

    def end(self, ending: Ending) -> None:
        """End the stream; the first reason stands."""
        if not self._ending.done():
            self._ending.set_result(ending)

    async def run(self) -> Ending:
        """Read until the end, and say how it ended."""
        reader = asyncio.create_task(self._guard())
        try:
            return await self._ending
        finally:
            reader.cancel()

    async def _guard(self) -> None:
        try:
            await self._read()
            self.end(_CLIENT_CLOSED)
        except ProtocolError as error:
            self.counters.add(metrics.PROTOCOL_ERRORS)
            text = printable(str(error))
            _LOG.warning("%s of %s: %s", self.what, printable(self.call.peer()), text)
            self.end(Ending("protocol_error", grpc.StatusCode.INVALID_ARGUMENT, text))
        except (grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError) as error:
            self.end(Ending("client_gone", grpc.StatusCode.CANCELLED, str(error)))
        except Exception as error:  # noqa: BLE001 - a fault of one stream must not reach the others
            self.counters.add(metrics.EXCEPTIONS)
            _LOG.error("%s: unexpected %s; ending the stream", self.what, error, exc_info=error)
            self.end(
                Ending("exception", grpc.StatusCode.INTERNAL, "trimtab failed; its log says more")
            )

    async def _read(self) -> None:
        while (request := await self.call.read()) is not grpc.aio.EOF:
            if wait_s := self._rate.take(self._clock()):
                self.counters.add(metrics.THROTTLED)
                await asyncio.wait((self._ending,), timeout=wait_s)
            await self.answer(request)
