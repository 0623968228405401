"""Load reports as a stream of their own: ``xds.service.orca.v3.OpenRcaService``.

For clients that ask seldom, and for policies that read reports out of band (gRFC A51). Requests/s
and errors/s are those of the interval, whether or not the reports of responses say any.
"""

from __future__ import annotations

import threading
from asyncio import Event, timeout
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import BytesValue

from trimtab.server.orca import encode_rates
from trimtab.server.server_load import ServerLoad

SERVICE = "xds.service.orca.v3.OpenRcaService"
METHOD = "StreamCoreMetrics"
LEAST_INTERVAL_S = 1.0
USUAL_INTERVAL_S = 10.0
_LONGEST_S = 3600.0


def add_load_report_service(
    server: grpc.Server | grpc.aio.Server,
    load: ServerLoad,
    *,
    least_interval_s: float = LEAST_INTERVAL_S,
) -> None:
    """Let clients of ``server`` subscribe to ``load``: a report at once, then one per interval.

    Args:
        server: a ``grpc.server`` or ``grpc.aio.server``, not started yet. In a ``grpc.server`` each
            subscriber takes one of its threads for as long as it listens.
        load: what to say; the one that the server's ``LoadReports`` has.
        least_interval_s: who asks for shorter intervals gets this one [s]. Who asks for none gets
            10 s.
    """

    def seconds(request: bytes) -> float:
        return min(max(_asked(request) or USUAL_INTERVAL_S, least_interval_s), _LONGEST_S)

    async def on_loop(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        interval, said = seconds(request), _Reports(load)
        while True:
            yield said.next()
            with suppress(TimeoutError):
                async with timeout(interval):
                    await Event().wait()

    def in_thread(request: bytes, context: Any) -> Iterator[bytes]:
        interval, said, ended = seconds(request), _Reports(load), threading.Event()
        if not context.add_callback(ended.set):
            return
        while not ended.is_set():
            yield said.next()
            ended.wait(interval)

    behavior = on_loop if isinstance(server, grpc.aio.Server) else in_thread
    handler: Any = grpc.unary_stream_rpc_method_handler(cast("Any", behavior))
    service = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
    server.add_generic_rpc_handlers((service,))


class _Reports:
    """One subscriber's reports: the first as responses have it, then with the rates since the last."""

    def __init__(self, load: ServerLoad) -> None:
        self._load = load
        self._last: tuple[float, int, int] | None = None

    def next(self) -> bytes:
        now, (ended, failed) = self._load.clock(), self._load.totals()
        binary, last = self._load.report().binary, self._last
        self._last = (now, ended, failed)
        if last is None or now <= last[0]:
            return binary
        span_s = now - last[0]
        return binary + encode_rates((ended - last[1]) / span_s, (failed - last[2]) / span_s)


def _asked(request: bytes) -> float:
    """``report_interval`` [s] of an ``OrcaLoadReportRequest``; 0 if there is none to be read.

    It is the message's first field, so a BytesValue's one field holds it; the other field, names
    of costs, passes by: a report that belongs to no request has no costs.
    """
    with suppress(DecodeError):
        interval = Duration.FromString(BytesValue.FromString(request).value)
        return float(interval.seconds + interval.nanos / 1e9)
    return 0.0
