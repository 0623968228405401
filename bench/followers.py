"""A crowd of raw clients that follow one cluster, each over a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from harness.waiting import Unmet, eventually
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
BACKOFF_S, CANCEL_AGAIN_S, CALLS_END_S = 1.0, 0.2, 2.0


class Follower:
    """A client that follows one cluster and comes again when its stream ends.

    Attributes:
        node: the id that it gives.
        streams: how often it opened one.
        assignments: how many it was sent.
    """

    def __init__(self, number: int, address: str, cluster: str, *, delta: bool) -> None:
        self.node = f"crowd-{number}"
        self.streams = self.assignments = 0
        self._address, self._cluster, self._delta = address, cluster, delta
        self._random = Random(number)
        self._version = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            while True:
                self.streams += 1
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await (self._follow_delta if self._delta else self._follow)(channel)
                await asyncio.sleep(self._random.uniform(0, BACKOFF_S))

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream(
            f"{ADS}/StreamAggregatedResources",
            request_serializer=wire.DiscoveryRequest.SerializeToString,
            response_deserializer=wire.DiscoveryResponse.FromString,
        )()
        asking: dict[str, Any] = {"type_url": type_urls.EDS, "resource_names": [self._cluster]}
        await call.write(wire.DiscoveryRequest(node={"id": self.node}, **asking))
        while (answer := await call.read()) is not grpc.aio.EOF:
            self.assignments += len(answer.resources)
            accepted = {"version_info": answer.version_info, "response_nonce": answer.nonce}
            await call.write(wire.DiscoveryRequest(**asking, **accepted))

    async def _follow_delta(self, channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream(
            f"{ADS}/DeltaAggregatedResources",
            request_serializer=wire.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=wire.DeltaDiscoveryResponse.FromString,
        )()
        known = {self._cluster: self._version} if self._version else {}
        await call.write(
            wire.DeltaDiscoveryRequest(
                node={"id": self.node},
                type_url=type_urls.EDS,
                resource_names_subscribe=[self._cluster],
                initial_resource_versions=known,
            )
        )
        while (answer := await call.read()) is not grpc.aio.EOF:
            self.assignments += len(answer.resources)
            for resource_ in answer.resources:
                self._version = resource_.version
            await call.write(
                wire.DeltaDiscoveryRequest(type_url=type_urls.EDS, response_nonce=answer.nonce)
            )


class Crowd:
    """Followers on a thread with a loop of its own.

    Args:
        followers: each runs until it is cancelled.
        end_within: how long they may take for that [s].
    """

    def __init__(self, followers: list[Follower], *, end_within: float = 20.0) -> None:
        self.followers = followers
        self._end_within = end_within
        self._left = len(followers)
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        # A daemon: one that does not end is told by ``stop``, and does not keep the process.
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def total(self, what: str) -> int:
        """The sum of an attribute of the followers."""
        return sum(getattr(follower, what) for follower in self.followers)

    def wait_assigned(self, *, within: float) -> None:
        """Wait until each has been sent an assignment."""

        def look() -> bool | Unmet:
            without = [f.node for f in self.followers if not f.assignments]
            return Unmet(f"without {len(without)}: {without[:5]}") if without else True

        eventually(look, within=within, what="an assignment for every client of the crowd")

    def stop(self) -> None:
        """End them all; once more does nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(self._end_within)
        if self._thread.is_alive():
            raise AssertionError(
                f"{self._left} of {len(self.followers)} clients of the crowd did not end "
                f"within {self._end_within:g} s"
            )

    def _live(self) -> None:
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        tasks = {asyncio.create_task(follower.run()) for follower in self.followers}
        await self._over.wait()
        # More than once: grpc.aio swallows a cancellation of ``read`` that meets the end of a stream
        # whose initial metadata has not come (``_read`` awaits ``_prepare_rpc``, which then returns).
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)
            self._left = len(tasks)
        # gRPC's own, which end when the end of each stream has been read; before that, the connections
        # stay open.
        if rest := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(rest, timeout=CALLS_END_S)
