"""Streams of load reports from servers (ORCA out of band), for the Services that ask for them.

One stream per endpoint, no more than the operator allows. A server that is dead, slow or hostile
costs its own stream: messages are small and read at the pace that was asked for, silence has an end,
and whoever fails is asked again ever more seldom.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from random import Random
from typing import Annotated, Any

import grpc
import grpc.aio
import msgspec

from trimtab.backoff import Backoff
from trimtab.control.server_loads import ServerLoads
from trimtab.discovery.pause import pause
from trimtab.errors import ConfigError, ProtocolError
from trimtab.xds import orca

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_CONNECT_S = 10.0
_USUAL_LEAST_S = 30.0  # the least interval of gRPC's own servers (gRFC A51)
_MISSED = 3  # reports, before a stream counts as silent
_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 300.0
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.http2.bdp_probe", 0),  # or what a hostile server sends unasked may grow
    ("grpc.max_receive_message_length", orca.MAX_REPORT_BYTES),
    ("grpc.absolute_max_metadata_size", 16 << 10),
)


class OutOfBand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section ``out_of_band`` of the configuration file.

    Attributes:
        streams: from how many endpoints this replica reads load reports; 0: from none, whatever
            Services ask for.
        interval_seconds: how often each is to report [s].
        ca: PEM file of the authorities that sign servers' certificates for
            ``SERVICE.NAMESPACE.svc``, read again when it changes; "": plaintext.
    """

    streams: Annotated[int, msgspec.Meta(ge=0, le=5000)] = 0
    interval_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=300)] = 10.0
    ca: str = ""

    def authorities(self) -> bytes:
        """What the file ``ca`` holds; nothing if there is none.

        Raises:
            ConfigError: it can't be read, or holds no certificates.
        """
        if not self.ca:
            return b""
        try:
            pem = Path(self.ca).read_bytes()
            # gRPC would not say what is wrong with it. Names beside certificates may have any letters.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(
                f"out_of_band.ca: {self.ca!r}: {error}; name a readable PEM file"
            ) from None
        return pem


class ReportStreams:
    """Reads what ``loads`` wants.

    Args:
        loads: says whom to read, and gets what they say.
        options: see there.
        random: draws when each stream begins, and when it is tried again.

    Raises:
        ConfigError: a file of the options can't be read.
    """

    def __init__(self, loads: ServerLoads, options: OutOfBand, random: Random) -> None:
        self._loads = loads
        self._options = options
        self._random = random
        self._refused = ""
        self._trust(options.authorities())
        self._silent_s = _MISSED * max(options.interval_seconds, _USUAL_LEAST_S)
        loads.fresh_s = self._silent_s
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Keep a stream to each endpoint that is wanted, for ever."""
        try:
            while True:
                wanted = self._loads.wanted(self._options.streams)
                # By name too: an address may have gone to a Service of another name.
                for one in self._tasks.keys() - wanted.items():
                    self._tasks.pop(one).cancel()
                for one in wanted.items():
                    if one not in self._tasks:
                        self._tasks[one] = asyncio.create_task(self._follow(*one))
                await pause(_LOOK_EVERY_S)
                await self._reread()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _reread(self) -> None:
        """Follow the file of authorities; what can't be used changes nothing."""
        try:
            authorities = await asyncio.to_thread(self._options.authorities)
        except ConfigError as error:
            if str(error) != self._refused:
                _LOG.warning("%s (the last good authorities stay in use)", error)
            self._refused = str(error)
            return
        self._refused = ""
        if authorities != self._authorities:
            self._trust(authorities)

    def _trust(self, authorities: bytes) -> None:
        """For connections that are made from now on."""
        self._authorities = authorities
        self._credentials = grpc.ssl_channel_credentials(authorities) if authorities else None

    async def _follow(self, target: str, name: str) -> None:
        backoff = Backoff(self._random, first_s=_FIRST_PAUSE_S, cap_s=_LONGEST_PAUSE_S)
        # Not all at once: neither at the start nor in each interval.
        await pause(self._random.uniform(0.0, self._options.interval_seconds))
        while True:
            try:
                reason = await self._listen(target, name, backoff)
            except grpc.aio.AioRpcError as error:
                reason = error.code().name.lower()
            except TimeoutError:
                reason = "silent"
            except ProtocolError:
                reason = "garbage"
            except Exception:  # noqa: BLE001 - one endpoint must not end the others' streams
                _LOG.exception("load reports of %s", target)
                reason = "exception"
            self._loads.lose(target, reason)
            await pause(_FIRST_PAUSE_S / 2 + backoff.next())

    async def _listen(self, target: str, name: str, backoff: Backoff) -> str:
        """Read a stream to its end; why it ended."""
        interval_s = self._options.interval_seconds
        channel = self._channel(target, name)
        first = True
        try:
            subscribe: Any = channel.unary_stream(orca.METHOD)
            call = subscribe(orca.request(interval_s))
            while True:
                async with asyncio.timeout(_CONNECT_S if first else self._silent_s):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return "ended" if await call.code() is grpc.StatusCode.OK else "failed"
                report = orca.decode(message)
                # A server's first report may come before it has counted for an interval.
                if not first or report.rps:
                    self._loads.take(target, report)
                if not first:
                    backoff.reset()
                first = False
                # What comes sooner than it was asked for waits in the connection's window.
                await pause(interval_s / 2)
        finally:
            await channel.close()

    def _channel(self, target: str, name: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=_OPTIONS)
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", name))
        return grpc.aio.secure_channel(target, self._credentials, options=options)
