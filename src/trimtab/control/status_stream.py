"""One reader's questions for what clients have (CSDS): a single one, or a stream of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trimtab.control.authorization import Identity
from trimtab.control.limits import RequestRate
from trimtab.control.patterns import fits
from trimtab.control.side_stream import SideStream
from trimtab.control.stream import Call, Stream
from trimtab.errors import ProtocolError
from trimtab.telemetry import Counters
from trimtab.xds import type_urls
from trimtab.xds.catalog import Catalog
from trimtab.xds.client_status import StatusQuery, client_status
from trimtab.xds.server_events import ResourceStatus

MAX_ANSWER = 3_500_000
"""Bytes; most gRPC clients refuse messages above 4 MiB."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Everybody who is connected, as one reader may see them.

    Attributes:
        streams: all of them, in order.
        catalog: what they were sent.
        identity: who reads; None: nobody has to prove who he is, and everybody sees everything.
        readers: patterns of the subjects that see all clients; the others see their own streams.
        now: loop time [s].
        unix: the same moment [Unix seconds].
    """

    streams: Iterable[Stream]
    catalog: Catalog
    identity: Identity | None
    readers: Sequence[str]
    now: float
    unix: float

    def _visible(self, stream: Stream) -> bool:
        if self.identity is None or stream.subject == self.identity.subject:
            return True
        return any(fits(self.identity.subject, pattern) for pattern in self.readers)

    def answer(self, request: bytes) -> bytes:
        """The encoded answer to an encoded question.

        Raises:
            ProtocolError: the question can't be understood, or the answer would be too large.
        """
        query = StatusQuery(request)
        found: list[bytes] = []
        left = MAX_ANSWER
        for stream in self.streams:
            client = stream.session.client
            node_id = client.node_id if client else ""
            if not self._visible(stream) or not query.matches(node_id):
                continue
            one = client_status(
                client,
                f"stream {stream.number}: {stream.service} {stream.transport} from {stream.peer}",
                stream.session.status(),
                lambda then: self.unix - (self.now - then),
                lambda status, stream=stream: (
                    self._content(stream, status)  # type: ignore[misc]
                    if query.contents
                    else None
                ),
            )
            left -= len(one)
            if left < 0:
                raise ProtocolError(
                    f"the answer would exceed {MAX_ANSWER} bytes; ask for fewer clients with "
                    "node_matchers, or set exclude_resource_contents"
                )
            found.append(one)
        return b"".join(found)

    def _content(self, stream: Stream, status: ResourceStatus) -> bytes | None:
        """What the client accepted, if that is still what it would be sent.

        What nobody has been sent yet is not encoded for it: a large cluster takes turns of the loop.
        """
        client = stream.session.client
        if client is None or not status.acked:
            return None
        if status.type_url == type_urls.EDS and not self.catalog.is_prepared(
            status.cluster, status.name, client
        ):
            return None
        known = self.catalog.get(status.type_url, status.name, client)
        return known.body if known is not None and known.version == status.acked else None


class StatusStream(SideStream):
    """See ``SideStream``.

    Args:
        clients: who is connected now.
        call: the transport.
        counters: what is counted.
        clock: loop time [s].
        rate: how often it may ask.
    """

    what = "client status"

    def __init__(
        self,
        clients: Callable[[], Clients],
        call: Call,
        counters: Counters,
        *,
        clock: Callable[[], float],
        rate: RequestRate,
    ) -> None:
        super().__init__(call, counters, clock, rate)
        self._clients = clients

    async def answer(self, request: bytes) -> None:
        """See ``SideStream``."""
        await self.call.write(self._clients().answer(request))
