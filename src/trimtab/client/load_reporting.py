"""The load reports of one subscription: does what a ``LoadReporter`` says, on the same thread."""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random

import grpc

from trimtab.client.bytes_stream import BytesStream
from trimtab.client.load_reporter import CloseLoads, LoadReporter, OpenLoads, SendLoads
from trimtab.xds.client_session import NodeInfo

METHOD = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"


class LoadReporting:
    """All of it but the decisions.

    Args:
        node: who reports.
        clock: monotonic seconds.
        post: has the subscription's thread do something; from any thread.
    """

    def __init__(
        self,
        node: NodeInfo,
        clock: Callable[[], float],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._reporter = LoadReporter(node, Random())
        self._clock = clock
        self._post = post
        self._channels: dict[int, grpc.Channel] = {}
        self._streams: dict[int, BytesStream] = {}

    def tell(self, act: Callable[[LoadReporter], None]) -> None:
        """Have the thread do something with the reporter. Never blocks; safe in finalisers."""
        self._post(lambda: act(self._reporter))

    # On the thread from here on.

    @property
    def streams(self) -> Collection[BytesStream]:
        """Those that are open."""
        return self._streams.values()

    def begin(self, number: int, channel: grpc.Channel) -> None:
        """See ``LoadReporter.begin``; ``channel`` is the stream's own."""
        self._channels[number] = channel
        self._reporter.begin(number, self._clock())

    def lost(self, number: int) -> None:
        """See ``LoadReporter.lost``."""
        self._channels.pop(number, None)
        self._reporter.lost(number)
        self._close(number)

    def poll(self) -> None:
        """Do what is due."""
        for step in self._reporter.poll(self._clock()):
            self._do(step)

    def wakes_at(self) -> float | None:
        """See ``LoadReporter.wakes_at``."""
        return self._reporter.wakes_at()

    def _do(self, step: OpenLoads | SendLoads | CloseLoads) -> None:
        match step:
            case OpenLoads(number, hello):
                self._open(number, hello)
            case SendLoads(number, message) if number in self._streams:
                self._streams[number].send(message)
            case CloseLoads(number):
                self._close(number)

    def _open(self, number: int, hello: bytes) -> None:
        def received(response: bytes) -> None:
            self._post(lambda: self._received(number, response))

        def closed(error: str) -> None:
            self._post(lambda: self._closed(stream, number, error))

        try:
            stream = BytesStream(self._channels[number], METHOD, "trimtab-lrs", received, closed)
        except ValueError:  # its channel was closed this moment; the news of that is on its way
            self.lost(number)
            return
        self._streams[number] = stream
        stream.send(hello)

    def _received(self, number: int, response: bytes) -> None:
        for step in self._reporter.received(number, response, self._clock()):
            self._do(step)

    def _closed(self, stream: BytesStream, number: int, error: str) -> None:
        if self._streams.get(number) is stream:
            del self._streams[number]
            self._reporter.closed(number, error, self._clock())

    def _close(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.close()
