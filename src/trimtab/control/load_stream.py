"""One client's stream of load reports (LRS)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trimtab.control import metrics
from trimtab.control.authorization import Audience
from trimtab.control.limits import RequestRate
from trimtab.control.loads import Loads
from trimtab.control.side_stream import SideStream
from trimtab.control.stream import Call
from trimtab.telemetry import Counters
from trimtab.xds.load_stats import LoadStatsSession


class LoadStream(SideStream):
    """See ``SideStream``.

    Args:
        session: the protocol.
        call: the transport.
        loads: where reports go.
        counters: what is counted.
        clock: loop time [s].
        rate: how often it may send.
        audience: what the client may know of; None: everything.
    """

    what = "load reports"

    def __init__(
        self,
        session: LoadStatsSession,
        call: Call,
        loads: Loads,
        counters: Counters,
        *,
        clock: Callable[[], float],
        rate: RequestRate,
        audience: Audience | None,
    ) -> None:
        super().__init__(call, counters, clock, rate)
        self._session = session
        self._loads = loads
        self._audience = audience

    async def answer(self, request: bytes) -> None:
        """See ``SideStream``."""
        loads = self._session.receive(request)
        client = self._session.client
        if client is not None:
            self.counters.add(metrics.LOAD_REPORTS, client.kind.value)
            self._loads.take(replace(client, audience=self._audience), loads)
        if (told := self._session.instruction()) is not None:
            await self.call.write(told)
