"""How each mode's channels are made, and what they are told of the scale-up.

All are given the same: a connection pool per channel (as separate clients would have), connected
before the first request is due. What they know of servers differs, and is the point.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import grpc
import grpc.aio

import trimtab.aio
from trimtab.demo.experiment import Mode, pins
from trimtab.demo.messages import Prepare
from trimtab.demo.server_process import METHOD, SERVICE

PATH = f"/{SERVICE}/{METHOD}"
OWN_CONNECTIONS = ("grpc.use_local_subchannel_pool", 1)
ROUND_ROBIN = (
    "grpc.service_config",
    json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}),
)
CONNECT_WITHIN_S = 10.0

Place = Callable[..., Awaitable[bytes]]


class Channels(Protocol):
    """The channels of one load process in one phase."""

    def place(self, channel: int, request: bytes, *, timeout: float) -> Awaitable[bytes]:
        """Send a request through channel ``channel`` (numbered over all load processes)."""

    async def learn(self, targets: tuple[str, ...]) -> None:
        """Take note that these are all the servers now."""

    async def close(self) -> None:
        """Close them; nothing is in flight any more."""


class FixedChannels:
    """Channels that are made once; whatever they learn later, they learn by themselves."""

    def __init__(self, channels: dict[int, grpc.aio.Channel]) -> None:
        self._made = list(channels.values())
        self._places: dict[int, Place] = {n: c.unary_unary(PATH) for n, c in channels.items()}

    def place(self, channel: int, request: bytes, *, timeout: float) -> Awaitable[bytes]:
        """See ``Channels``."""
        return self._places[channel](request, timeout=timeout)

    async def learn(self, targets: tuple[str, ...]) -> None:
        """These channels are not told."""

    async def close(self) -> None:
        """See ``Channels``."""
        for channel in self._made:
            await channel.close()


class ToldChannels(FixedChannels):
    """Native round_robin whose address list is replaced the moment the new servers are ready.

    No resolver of native gRPC is that quick; it is the best that round robin can be. The new
    channels are connected before they get requests, the old ones finish what they have.
    """

    async def learn(self, targets: tuple[str, ...]) -> None:
        """See ``Channels``."""
        channels = {n: round_robin(targets) for n in self._places}
        await connect(channels.values())
        self._made.extend(channels.values())
        self._places = {n: c.unary_unary(PATH) for n, c in channels.items()}


def round_robin(targets: tuple[str, ...]) -> grpc.aio.Channel:
    """A native channel that takes its servers in turn."""
    return grpc.aio.insecure_channel(
        "ipv4:" + ",".join(targets), options=(OWN_CONNECTIONS, ROUND_ROBIN)
    )


async def connect(channels: Iterable[grpc.aio.Channel]) -> None:
    """Wait until each of these channels is ready.

    Raises:
        TimeoutError: one was not in time.
    """
    async with asyncio.timeout(CONNECT_WITHIN_S):
        for channel in channels:
            await channel.channel_ready()


async def open_channels(prepare: Prepare) -> Channels:
    """Make the channels of this process's share and connect them."""
    experiment = prepare.experiment
    mine = range(prepare.share, experiment.channels, experiment.load_processes)
    made: dict[int, grpc.aio.Channel]
    match prepare.mode:
        case Mode.PINNED:
            pinned = pins(experiment)
            made = {
                n: grpc.aio.insecure_channel(prepare.targets[pinned[n]], options=[OWN_CONNECTIONS])
                for n in mine
            }
        case Mode.ROUND_ROBIN_STALE | Mode.ROUND_ROBIN:
            made = {n: round_robin(prepare.targets) for n in mine}
        case Mode.TRIMTAB:
            bootstrap = {
                "xds_servers": [
                    {
                        "server_uri": prepare.control_plane,
                        "channel_creds": [{"type": "insecure"}],
                        "server_features": ["xds_v3"],
                    }
                ],
                "node": {"id": f"demo-{prepare.share}"},
            }
            made = {
                n: trimtab.aio.insecure_channel(
                    f"xds:///{prepare.cluster}", options=[OWN_CONNECTIONS], bootstrap=bootstrap
                )
                for n in mine
            }
    await connect(made.values())
    return ToldChannels(made) if prepare.mode is Mode.ROUND_ROBIN else FixedChannels(made)
