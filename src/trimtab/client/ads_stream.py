"""The subscription's stream to a control plane, and its connection. No decisions.

A sync stream, since a second asyncio loop with gRPC in the process, even an idle one, makes every
call of the first dearer. Each stream has a channel of its own, so that the name is resolved again,
certificates are read again, and gRPC's own connection back-off never adds to ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc

from trimtab.client.bootstrap import Credentials, Server
from trimtab.client.bytes_stream import BytesStream
from trimtab.client.native_channels import blocking_channel

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"

_CONNECT_MS = 10_000
_PONG_MS = 5_000
_MAX_RESPONSE = 64 * 1024 * 1024  # native gRPC's 4 MiB ends the stream without a word

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),  # C-core's limit for one connection attempt
    ("grpc.max_receive_message_length", _MAX_RESPONSE),
    # A dead network is noticed by the unanswered ping's TCP timeout, a frozen process only by
    # ping_timeout_ms, which is 60 s unless set.
    ("grpc.keepalive_timeout_ms", _PONG_MS),
    ("grpc.http2.ping_timeout_ms", _PONG_MS),
    # A quiet stream carries no data for hours: by default C-core stops pinging after two.
    ("grpc.http2.max_pings_without_data", 0),
)


class AdsStream(BytesStream):
    """An open stream.

    Args:
        server: whom to connect to.
        keepalive_s: how often to ping it [s].
        received: called with each response, on the stream's thread.
        closed: called once with gRPC's text when it has ended, on the stream's thread.

    Attributes:
        channel: its connection; closed when the stream has ended.

    Raises:
        OSError: a certificate's or token's file can't be read.
        RuntimeError: the process has as many threads as it may.
    """

    def __init__(
        self,
        server: Server,
        keepalive_s: float,
        received: Callable[[bytes], None],
        closed: Callable[[str], None],
    ) -> None:
        channel = self.channel = _channel(server, keepalive_s)

        def ended(error: str) -> None:
            channel.close()
            closed(error)

        try:
            super().__init__(channel, METHOD, "trimtab-ads", received, ended)
        except BaseException:
            channel.close()
            raise


def _channel(server: Server, keepalive_s: float) -> grpc.Channel:
    options = (*_OPTIONS, ("grpc.keepalive_time_ms", int(keepalive_s * 1000)))
    insecure = server.credentials.kind == "insecure"
    return blocking_channel(server.uri, None if insecure else _tls(server.credentials), options)


def _tls(credentials: Credentials) -> grpc.ChannelCredentials:
    tls = grpc.ssl_channel_credentials(
        root_certificates=_pem(credentials.ca_file),
        private_key=_pem(credentials.private_key_file),
        certificate_chain=_pem(credentials.certificate_file),
    )
    if not credentials.token_file:
        return tls
    # Read for each stream, as the channel is made for each: kubelet replaces the token in time.
    token = Path(credentials.token_file).read_text(encoding="utf-8").strip()
    return grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(token))


def _pem(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None
