"""What crowds of clients, churn and clients that don't read do to the control plane.

The control plane and its clients are processes of their own, as in ``push.py``. Each scene starts anew:

* 4,000 and 5,000 clients connect at once;
* 5,000 delta clients connect at once that have the present version from an earlier stream;
* 20 of 1,000 clients stop reading while endpoints change;
* 100 clusters change every second, 1,000 clients follow one each;
* a million updates of one cluster, with 10 clients.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from machine import publish
from push import CLUSTER, Child
from trimtab.model import Synced, Updated
from trimtab.xds import type_urls
from trimtab.xds.catalog import Catalog, Client, ClientKind
from xds_servers import Fleet

HERE = Path(__file__).parent
QUIET_S = 2.0


class Scene:
    """A control plane with clusters of equal size, and clients that each follow one."""

    def __init__(
        self, *, size: int, clusters: int = 1, delta: bool = False, version: str = ""
    ) -> None:
        names = [CLUSTER] if clusters == 1 else [f"s{n}.shop:8080" for n in range(clusters)]
        joined = ",".join(names)
        self.server = Child(sys.executable, str(HERE / "xds_servers.py"), "ours", joined, str(size))
        port = str(self.server.read()["port"])
        variant = "delta" if delta else "sotw"
        self.crowd = Child(
            sys.executable, str(HERE / "xds_receivers.py"), port, joined, variant, version
        )

    def push(self) -> tuple[float, float, float]:
        """Change the first cluster: seconds to the median client and the last, server's CPU [s]."""
        before = self.server.ask("cpu")["cpu"]
        began = self.server.ask("push")["began"]
        seen = self.crowd.ask("round")
        time.sleep(0.2)
        used = self.server.ask("cpu")["cpu"] - before
        if seen["received"] < seen["expected"] or seen["lost"]:
            raise SystemExit(f"a push reached not all: {seen}")
        return seen["p50"] - began, seen["last"] - began, used

    def memory(self) -> float:
        """Resident memory of the server [MB]."""
        return self.server.ask("memory")["memory"] / 1e6

    def close(self) -> None:
        """End both."""
        self.crowd.close()
        self.server.close()


def storm(clients: int) -> str:
    """That many connect at once."""
    scene = Scene(size=1000)
    seen = scene.crowd.ask(f"connect {clients}")
    memory, peak = scene.memory(), scene.server.peak / 1e6
    scene.close()
    return (
        f"| {clients:,} connect at once, 1,000 endpoints each | {seen['received']:,} of {clients:,} "
        f"in sync, {seen['lost']} lost | last after {seen['last'] - seen['begin']:.1f} s "
        f"| {memory:.0f} (peak {peak:.0f}) |"
    )


def unchanged(clients: int) -> str:
    """Delta clients that reconnect with what is current."""
    fleet = Fleet([CLUSTER], 1000)
    catalog = Catalog()
    catalog.apply(Updated(fleet.snapshot(0)))
    catalog.apply(Synced())
    current = catalog.get(type_urls.EDS, CLUSTER, Client(kind=ClientKind.GRPC))
    scene = Scene(size=1000, delta=True, version=current.version)
    scene.crowd.ask(f"connect {clients} silent")
    time.sleep(QUIET_S)
    early = scene.crowd.ask("take")["received"]
    _, last, _ = scene.push()
    memory = scene.memory()
    scene.close()
    return (
        f"| {clients:,} delta clients reconnect unchanged | {early} assignments sent before the next "
        f"change | that reached the last after {last:.2f} s | {memory:.0f} |"
    )


def stuck(clients: int, count: int, pushes: int) -> str:
    """Some stop reading; do the others notice?"""
    scene = Scene(size=1000)
    scene.crowd.ask(f"connect {clients}")
    before = [scene.push()[1] for _ in range(pushes)]
    memory = scene.memory()
    scene.crowd.ask(f"stick {count}")
    after = [scene.push()[1] for _ in range(pushes)]
    grown = scene.memory() - memory
    scene.close()
    middle = statistics.median
    return (
        f"| {count} of {clients:,} stop reading, {pushes} pushes of 1,000 endpoints | last of the "
        f"others after {middle(after) * 1e3:.0f} ms, before {middle(before) * 1e3:.0f} ms "
        f"| {middle(after) / middle(before):.2f} x | {grown:+.1f} |"
    )


def churn(clients: int, clusters: int, seconds: int) -> str:
    """All clusters change every second."""
    scene = Scene(size=100, clusters=clusters)
    scene.crowd.ask(f"connect {clients}")
    lags: list[float] = []
    begin = time.monotonic()
    cpu = scene.server.ask("cpu")["cpu"]
    for turn in range(seconds):
        time.sleep(max(0.0, begin + turn - time.monotonic()))
        began = scene.server.ask(f"churn {clusters}")["began"]
        seen = scene.crowd.ask("round")
        if seen["received"] < seen["expected"]:
            raise SystemExit(f"churn: {seen}")
        lags.append(seen["last"] - began)
    used = (scene.server.ask("cpu")["cpu"] - cpu) / seconds
    memory = scene.memory()
    scene.close()
    third = seconds // 3
    first, last = statistics.median(lags[:third]), statistics.median(lags[-third:])
    return (
        f"| {clusters} clusters/s change for {seconds} s, {clients:,} clients | last client after "
        f"{first * 1e3:.0f} ms in the first third, {last * 1e3:.0f} ms in the last "
        f"| {used:.2f} cores | {memory:.0f} |"
    )


def million(updates: int) -> str:
    """Does memory grow with updates?"""
    scene = Scene(size=10)
    scene.crowd.ask("connect 10")
    scene.server.ask(f"updates {updates // 10}")
    start = scene.memory()
    begin = time.monotonic()
    scene.server.ask(f"updates {updates}")
    took = time.monotonic() - begin
    time.sleep(QUIET_S)
    end = scene.memory()
    scene.crowd.ask("take")
    scene.close()
    return (
        f"| {updates:,} updates of a cluster, 10 clients | {updates / took:,.0f} updates/s "
        f"| memory {end / start - 1:+.1%} | {end:.1f} after {start:.1f} |"
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=30, help="of churn")
    parser.add_argument("--write", metavar="FILE")
    args = parser.parse_args()
    rows = ["| scene | what came | figure | memory [MB] |", "|---|---|---|---|"]
    for scene in (
        lambda: storm(4_000),
        lambda: storm(5_000),
        lambda: unchanged(5_000),
        lambda: stuck(1_000, 20, 60),
        lambda: churn(1_000, 100, args.seconds),
        lambda: million(args.updates),
    ):
        rows.append(scene())
        print(rows[-1], file=sys.stderr, flush=True)
    body = (
        "Every client has a connection of its own. Memory: of the control plane's process, "
        "resident.\n\n" + "\n".join(rows)
    )
    publish("Crowds, churn and clients that don't read", body, args.write, "trimtab", "grpcio")


if __name__ == "__main__":
    main()
