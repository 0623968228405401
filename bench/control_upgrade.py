"""A rolling upgrade of the control plane under load: what fails, who reconnects, and how many at once?

Two real `trimtab serve` replicas behind one address, which leads new connections to those that are ready, as
a Service does. One new replica starts, and once it is ready one of the old gets SIGTERM and drains over 5 s;
then the next. Meanwhile trimtab's client and native gRPC send requests through two servers, and a crowd of
raw clients, each with a connection of its own, follows a cluster of 1,000 endpoints; a client whose stream
ends comes again after 0 to 1 s, drawn at random. With --old the replicas that go are of that revision.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio

from machine import publish

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from harness.backends import Backends
from harness.client import Road
from harness.control_plane import printed_bootstrap
from harness.manifests import Manifests, Pod
from harness.one_address import busiest_second
from harness.python_clients import native_client, trimtab_client
from harness.replicas import Replicas
from harness.traffic import Traffic
from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
CLUSTER = "big.shop:8080"
ENDPOINTS, RATE, BACKOFF_S, DRAIN_S, MOVED_S = 1_000, 100, 1.0, 5, 60.0


class Follower:
    """A client that follows one cluster and comes again when its stream ends."""

    def __init__(self, number: int, address: str, *, delta: bool) -> None:
        self.node = f"crowd-{number}"
        self.streams = self.assignments = 0
        self._address, self._delta, self._random = address, delta, Random(number)
        self._version = ""

    async def run(self) -> None:
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
        asking: dict[str, Any] = {"type_url": type_urls.EDS, "resource_names": [CLUSTER]}
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
        known = {CLUSTER: self._version} if self._version else {}
        await call.write(
            wire.DeltaDiscoveryRequest(
                node={"id": self.node},
                type_url=type_urls.EDS,
                resource_names_subscribe=[CLUSTER],
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
    """Followers on a thread with a loop of its own."""

    def __init__(self, count: int, address: str, *, delta: bool) -> None:
        self.followers = [Follower(n, address, delta=delta) for n in range(count)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._over = asyncio.Event()
        self._thread.start()

    async def _run(self) -> None:
        tasks = [asyncio.create_task(follower.run()) for follower in self.followers]
        await self._over.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def total(self, what: str) -> int:
        return sum(getattr(follower, what) for follower in self.followers)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


def dated(revision: str) -> str:
    """A revision as a reader of the page finds it: short name and day."""
    command = ["git", "show", "-s", "--format=%h of %as", revision]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def checked_out(revision: str, directory: str) -> Path:
    """The package's sources as they were then."""
    archive = subprocess.run(["git", "archive", revision, "src"], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", directory], check=True, input=archive.stdout)
    return Path(directory) / "src"


def upgrade(count: int, *, delta: bool, old_source: Path | None) -> str:
    """One row of the table."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as directory:

        def started(part: Any) -> Any:
            stack.callback(part.stop)
            return part

        manifests = Manifests(Path(directory))
        manifests.write("orders", "shop", started(Backends()).open("a", "b"))
        manifests.write("big", "shop", [Pod(f"p{n}", 20_000 + n) for n in range(ENDPOINTS)])
        replicas = Replicas(manifests.path, started, options=["--drain", str(DRAIN_S)])
        for _ in range(2):
            replicas.add(source=old_source)
        crowd = started(Crowd(count, replicas.address, delta=delta))
        made = []
        for name, client in (("native", native_client), ("trimtab", trimtab_client)):
            identity = (("node_id", name), ("namespace", "shop"))
            printed = printed_bootstrap("grpc", replicas.address, identity)
            made.append((started(client(printed)), {name: Road("xds:///orders.shop:grpc")}))
        nodes = ["native", "trimtab", *(f.node for f in crowd.followers)]
        replicas.wait_connected(nodes[2:], within=MOVED_S)
        # An assignment each, so that none of the first ones is counted below.
        while crowd.total("assignments") < count:
            time.sleep(0.05)
        before = {what: crowd.total(what) for what in ("streams", "assignments")}
        first = [f.streams for f in crowd.followers]
        back = []
        with Traffic(made).load(RATE) as load:
            load.comes_from("a", "b")
            replicas.wait_connected(nodes, within=MOVED_S)
            arrived = len(replicas.arrivals)
            for old in tuple(replicas.running):
                replicas.add()
                began = time.monotonic()
                replicas.remove(old)
                replicas.wait_connected(nodes, within=MOVED_S)
                back.append(time.monotonic() - began)
            load.goes_on(100)
            requests = sum(sum(s.values()) for one in load.loads for s in one.served().values())
        again = [f.streams - n for f, n in zip(crowd.followers, first, strict=True)]
        streams = crowd.total("streams") - before["streams"]
        assignments = crowd.total("assignments") - before["assignments"]
        return (
            f"| {count:,} {'delta' if delta else 'state of the world'} | 0 of {requests:,} "
            f"| {streams / count:.2f}, {max(again)} | {busiest_second(replicas.arrivals[arrived:])} "
            f"| {assignments / count:.2f} | {max(back):.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--write", metavar="FILE")
    parser.add_argument(
        "--old", metavar="REVISION", help="the replicas that go are of this version"
    )
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory:
        old = checked_out(options.old, directory) if options.old else None
        rows = [upgrade(options.clients, delta=d, old_source=old) for d in (False, True)]
    which = f"The replicas that go are of revision {dated(options.old)}. " if options.old else ""
    body = f"""Two replicas behind one address are replaced one after the other, each draining over {DRAIN_S} s. {which}A failed
request would end the benchmark. Streams: how often a client of the crowd opened one again, on average and the
most; twice is once for each replica that went. Assignments: of {ENDPOINTS:,} endpoints, sent again per client.

| crowd | failed requests | streams again: mean, most | new connections in the busiest second | assignments | all back after SIGTERM [s] |
|---|---|---|---|---|---|
""" + "\n".join(rows)
    publish("A rolling upgrade of the control plane", body, options.write, "trimtab", "grpcio")


if __name__ == "__main__":
    main()
