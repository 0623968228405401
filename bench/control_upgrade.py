"""A rolling upgrade of the control plane under load: what fails, who reconnects, and how many at once?

Two real `trimtab serve` replicas behind one address, which leads new connections to those that are ready, as
a Service does. One new replica starts, and once it is ready one of the old gets SIGTERM and drains over 5 s;
then the next. Meanwhile trimtab's client and native gRPC send requests through two servers, and a crowd of
raw clients, each with a connection of its own, follows a cluster of 1,000 endpoints; a client whose stream
ends comes again after 0 to 1 s, drawn at random. With --old the replicas that go are of that revision.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from followers import Crowd, Follower
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

CLUSTER = "big.shop:8080"
ENDPOINTS, RATE, DRAIN_S, MOVED_S = 1_000, 100, 5, 60.0
BEGAN = time.monotonic()


def progress(text: str) -> None:
    """A line on stderr. What a deadline ends says itself what was waited for."""
    print(f"{time.monotonic() - BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)


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
    kind = f"{count:,} {'delta' if delta else 'state of the world'}"
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as directory:

        def started(part: Any) -> Any:
            stack.callback(part.stop)
            return part

        progress(f"{kind}: two replicas start")
        manifests = Manifests(Path(directory))
        manifests.write("orders", "shop", started(Backends()).open("a", "b"))
        manifests.write("big", "shop", [Pod(f"p{n}", 20_000 + n) for n in range(ENDPOINTS)])
        replicas = Replicas(manifests.path, started, options=["--drain", str(DRAIN_S)])
        for _ in range(2):
            replicas.add(source=old_source)
        progress(f"{kind}: the crowd comes")
        address = replicas.address
        crowd = started(Crowd([Follower(n, address, CLUSTER, delta=delta) for n in range(count)]))
        made = []
        for name, client in (("native", native_client), ("trimtab", trimtab_client)):
            identity = (("node_id", name), ("namespace", "shop"))
            printed = printed_bootstrap("grpc", address, identity)
            made.append((started(client(printed)), {name: Road("xds:///orders.shop:grpc")}))
        nodes = ["native", "trimtab", *(f.node for f in crowd.followers)]
        replicas.wait_connected(nodes[2:], within=MOVED_S)
        # So that none of the first ones is counted below.
        crowd.wait_assigned(within=MOVED_S)
        before = {what: crowd.total(what) for what in ("streams", "assignments")}
        first = [f.streams for f in crowd.followers]
        back = []
        with Traffic(made).load(RATE) as load:
            progress(f"{kind}: requests begin")
            load.comes_from("a", "b")
            replicas.wait_connected(nodes, within=MOVED_S)
            arrived = len(replicas.arrivals)
            for old in tuple(replicas.running):
                replicas.add()
                progress(f"{kind}: an old replica gets SIGTERM, {len(back)} are gone")
                began = time.monotonic()
                replicas.remove(old)
                replicas.wait_connected(nodes, within=MOVED_S)
                back.append(time.monotonic() - began)
            load.goes_on(100)
            requests = sum(sum(s.values()) for one in load.loads for s in one.served().values())
        again = [f.streams - n for f, n in zip(crowd.followers, first, strict=True)]
        streams = crowd.total("streams") - before["streams"]
        assignments = crowd.total("assignments") - before["assignments"]
        progress(f"{kind}: all are back, and the crowd goes")
        crowd.stop()  # before the replicas, whose end it would answer with a storm
        return (
            f"| {kind} | 0 of {requests:,} "
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
