"""What an asyncio channel says of itself; the same for both ways to place calls."""

from __future__ import annotations

import grpc
import grpc.aio

from trimtab.balancer import Balancer
from trimtab.client.aio_cluster import AioCluster


class Face:
    """Connectivity of the whole, and what lies behind it."""

    _cluster: AioCluster

    @property
    def trimtab(self) -> Balancer:
        """The balancer behind this channel: its nodes, their states, what is in flight."""
        return self._cluster.balancer

    def __repr__(self) -> str:
        return f"<trimtab.aio.Channel {self.get_state().name}: {self._cluster.balancer!r}>"

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002
        """READY when a call can leave at once. Endpoints are always being connected."""
        return self._cluster.availability.connectivity

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the state differs from ``last_observed_state``.

        Raises:
            grpc.aio.UsageError: the channel is closed, or was meanwhile.
        """
        cluster = self._cluster
        self._refuse_if_closed()
        while cluster.availability.connectivity is last_observed_state:
            await cluster.change()
            self._refuse_if_closed()

    async def channel_ready(self) -> None:
        """Return once a call can leave at once; raises as ``wait_for_state_change`` does."""
        while (state := self.get_state()) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    def _refuse_if_closed(self) -> None:
        if self._cluster.availability.closed:
            raise grpc.aio.UsageError(self._cluster.closed_text)
