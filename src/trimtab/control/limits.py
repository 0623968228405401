"""What one client, and all together, may cost. On by default; the configuration file changes them."""

from __future__ import annotations

from random import Random
from typing import Annotated

import msgspec

from trimtab.xds.server_session import Limits as SessionLimits

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]

_AGE_JITTER = 0.1


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section ``limits`` of the configuration file.

    Attributes:
        connections: open TCP connections; more are closed at once.
        streams: open streams.
        streams_per_identity: of one identity; where clients prove none, of one address.
        pending_streams: streams that wait for the API server to say whose their token is.
        pending_per_address: of one address.
        names_per_stream: subscribed names, all types together, but for those of clusters there are.
        name_length: characters of a name.
        node_bytes: size of the node in a request.
        request_bytes: size of a request.
        requests_per_second: of one stream, answers to what it was sent aside; more wait.
        request_burst: how many of them may come at once.
        handshake_s: how long TLS and HTTP/2 may take to begin [s].
        connection_age_s: when a connection and its streams are ended, plus or minus a tenth [s].
    """

    connections: _Count = 20_000
    streams: _Count = 40_000
    streams_per_identity: _Count = 10_000
    pending_streams: _Count = 5_000
    pending_per_address: _Count = 1_000
    names_per_stream: _Count = 10_000
    name_length: _Count = 512
    node_bytes: _Count = 64 << 10
    request_bytes: _Count = 4 << 20
    requests_per_second: _Seconds = 100.0
    request_burst: _Count = 1000
    handshake_s: _Seconds = 10.0
    connection_age_s: _Seconds = 1800.0

    def draw_age(self, random: Random) -> float:
        """When one stream shall end [s]: those that came together don't go together."""
        return self.connection_age_s * random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)

    def of_session(self) -> SessionLimits:
        """Those that concern the protocol's content."""
        return SessionLimits(
            names=self.names_per_stream,
            name_length=self.name_length,
            request_bytes=self.request_bytes,
            node_bytes=self.node_bytes,
        )

    def transport_options(self) -> tuple[tuple[str, int], ...]:
        """Those that gRPC enforces, as options of a server."""
        handshake_ms, age_ms = int(self.handshake_s * 1e3), int(self.connection_age_s * 1e3)
        return (
            ("grpc.max_allowed_incoming_connections", self.connections),
            # Above the limit on requests, so that it is ours that is met, with a text.
            ("grpc.max_receive_message_length", self.request_bytes + (64 << 10)),
            ("grpc.server_handshake_timeout_ms", handshake_ms),
            ("grpc.http2.settings_timeout", handshake_ms),
            # gRPC adds its own tenth of jitter. Streams are ended by us before the grace is over.
            ("grpc.max_connection_age_ms", age_ms),
            ("grpc.max_connection_age_grace_ms", age_ms),
        )


class RequestRate:
    """A token bucket for one stream's requests. Pure.

    Args:
        per_s: tokens that come back per second.
        burst: the most there can be.
        now: the time of the start [s].
    """

    __slots__ = ("_burst", "_left", "_per_s", "_since")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._since = now

    def answer_due(self) -> None:
        """The client was sent something: its answer costs nothing."""
        self._left = min(self._burst, self._left + 1)

    def take(self, now: float) -> float:
        """A request came; return how long the next one must wait [s]."""
        self._left = min(self._burst, self._left + (now - self._since) * self._per_s) - 1
        self._since = now
        return max(0.0, -self._left / self._per_s)
