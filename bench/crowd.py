"""What crowds of clients, churn and clients that don't read do to the control plane.

The control plane and its clients are processes of their own, as in ``push.py``. Each scene starts anew:

* 4,000 and 5,000 clients connect at once;
* 5,000 delta clients connect at once that have the present version from an earlier stream;
* 20 of 1,000 clients stop reading while endpoints change;
* 100 clusters change every second, 1,000 clients follow one each;
* a million updates of one cluster, with 10 clients;
* 5,000 clients lose their control plane at one moment, which is away for 40 s, and come back with the
  back-off that trimtab's clients have (``trimtab.backoff``);
* 100,000 connections, one after the other, each with a stream that gets a response.

With ``--reporting N`` every client also reports load of N endpoints every 10 s. With ``--tls`` every
connection is one of TLS.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from machine import publish
from over_tls import switched
from push import CLUSTER, Child
from trimtab.model import Synced, Updated
from trimtab.xds import type_urls
from trimtab.xds.catalog import Catalog, Client, ClientKind
from xds_servers import Fleet

HERE = Path(__file__).parent
QUIET_S = 2.0
AWAY_S = 40.0  # by then the back-off of most has reached its longest delay
WINDOW_S = 30  # the longest delay


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        cells: what stands in it.
        target: what was to be reached.
        met: whether it was.
    """

    cells: str
    target: str
    met: bool


class Scene:
    """A control plane with clusters of equal size, and clients that each follow one."""

    reported = 0  # of how many endpoints clients report load

    def __init__(
        self, *, size: int, clusters: int = 1, delta: bool = False, version: str = ""
    ) -> None:
        names = [CLUSTER] if clusters == 1 else [f"s{n}.shop:8080" for n in range(clusters)]
        joined = ",".join(names)
        self._server = (str(HERE / "xds_servers.py"), "ours", joined, str(size))
        self.server = Child(sys.executable, *self._server)
        self._port = str(self.server.read()["port"])
        receivers, variant = str(HERE / "xds_receivers.py"), "delta" if delta else "sotw"
        arguments = (self._port, joined, variant, version, str(self.reported))
        self.crowd = Child(sys.executable, receivers, *arguments)

    def start_again(self) -> None:
        """A new server where the old one was."""
        self.server = Child(sys.executable, *self._server, self._port)
        self.server.read()

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


def storm(clients: int) -> Row:
    """That many connect at once."""
    scene = Scene(size=1000)
    seen = scene.crowd.ask(f"connect {clients}")
    memory, peak = scene.memory(), scene.server.peak / 1e6
    scene.close()
    took = seen["last"] - seen["begin"]
    return Row(
        f"| {clients:,} connect at once, 1,000 endpoints each | {seen['received']:,} of {clients:,} "
        f"in sync, {seen['lost']} lost | last after {took:.1f} s "
        f"| {memory:.0f} (peak {peak:.0f}) |",
        "all within 30 s, none rejected, 1,000 MB",
        seen["received"] == clients and not seen["lost"] and took <= 30 and peak <= 1000,
    )


def unchanged(clients: int) -> Row:
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
    return Row(
        f"| {clients:,} delta clients reconnect unchanged | {early} assignments sent before the next "
        f"change | that reached the last after {last:.2f} s | {memory:.0f} |",
        "0 assignments",
        early == 0,
    )


def stuck(clients: int, count: int, pushes: int) -> Row:
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
    times = middle(after) / middle(before)
    return Row(
        f"| {count} of {clients:,} stop reading, {pushes} pushes of 1,000 endpoints | last of the "
        f"others after {middle(after) * 1e3:.0f} ms, before {middle(before) * 1e3:.0f} ms "
        f"| {times:.2f} x | {grown:+.1f} |",
        "1.1 x",
        times <= 1.1,
    )


def churn(clients: int, clusters: int, seconds: int) -> Row:
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
    return Row(
        f"| {clusters} clusters/s change for {seconds} s, {clients:,} clients | last client after "
        f"{first * 1e3:.0f} ms in the first third, {last * 1e3:.0f} ms in the last "
        f"| {used:.2f} cores | {memory:.0f} |",
        "no later in the last third, by more than a tenth",
        last <= 1.1 * first,
    )


def million(updates: int) -> Row:
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
    return Row(
        f"| {updates:,} updates of a cluster, 10 clients | {updates / took:,.0f} updates/s "
        f"| memory {end / start - 1:+.1%} | {end:.1f} after {start:.1f} |",
        "memory within 5 %",
        abs(end / start - 1) <= 0.05,
    )


def comeback(clients: int) -> Row:
    """A control plane is killed and back after a while: do its clients come one after the other?"""
    scene = Scene(size=1000)
    scene.crowd.ask(f"connect {clients}")
    scene.crowd.tell(f"come back {clients}")
    time.sleep(QUIET_S)
    scene.server.kill()
    time.sleep(AWAY_S)
    scene.start_again()
    begin = time.monotonic()
    seen = scene.crowd.read()
    cores = scene.server.ask("cpu")["cpu"] / (time.monotonic() - begin)
    memory = scene.memory()
    scene.close()
    arrivals = Counter(int(at - begin) for at in seen["opened"])
    peak, mean = max(arrivals.values()), clients / WINDOW_S
    took = seen["last"] - begin
    return Row(
        f"| {clients:,} lose their control plane, which is away for {AWAY_S:.0f} s | "
        f"{seen['received']:,} back, the last after {took:.0f} s; {peak} connections in the busiest "
        f"second, {mean:.0f} on average over {WINDOW_S} s | {peak / mean:.2f} x; {cores:.2f} cores "
        f"| {memory:.0f} |",
        f"2 x (the back-off by itself: 1.74, give or take {(1.74 / mean) ** 0.5:.2f}); all within 60 s",
        seen["received"] == clients and peak <= 2 * mean and took <= 2 * WINDOW_S,
    )


def connects(count: int) -> Row:
    """What stays of a connection that came and went?"""
    scene = Scene(size=10)
    scene.crowd.ask(f"cycle {max(1000, count // 10)}")
    time.sleep(QUIET_S)
    before = scene.memory()
    begin = time.monotonic()
    scene.crowd.ask(f"cycle {count}")
    took = time.monotonic() - begin
    time.sleep(QUIET_S)
    after = scene.memory()
    scene.close()
    each = (after - before) * 1e6 / count
    return Row(
        f"| {count:,} connections come and go | {count / took:,.0f} a second | {each:,.0f} bytes stay of "
        f"each | {after:.1f} after {before:.1f} |",
        "200 bytes",
        each <= 200,
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=30, help="of churn")
    parser.add_argument("--connects", type=int, default=100_000)
    parser.add_argument("--reporting", type=int, default=0, metavar="ENDPOINTS")
    parser.add_argument("--scenes", nargs="+", help="only these")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--write", metavar="FILE")
    args = parser.parse_args()
    Scene.reported = args.reporting
    scenes: dict[str, Callable[[], Row]] = {
        "storm": lambda: storm(4_000),
        "crowd": lambda: storm(5_000),
        "unchanged": lambda: unchanged(5_000),
        "stuck": lambda: stuck(1_000, 20, 60),
        "churn": lambda: churn(1_000, 100, args.seconds),
        "updates": lambda: million(args.updates),
        "comeback": lambda: comeback(5_000),
        "connects": lambda: connects(args.connects),
    }
    rows = ["| scene | what came | figure | memory [MB] | target | |", "|---|---|---|---|---|---|"]
    for name in args.scenes or scenes:
        with switched(on=args.tls):
            found = scenes[name]()
        rows.append(f"{found.cells} {found.target} | {'met' if found.met else 'missed'} |")
        print(rows[-1], file=sys.stderr, flush=True)
    reporting = (
        f" Every client reports load of {args.reporting} endpoints." if args.reporting else ""
    )
    body = (
        f"Every client has a connection of its own, {'of TLS' if args.tls else 'in plaintext'}. Memory: of the "
        f"control plane's process, resident.{reporting}\n\n" + "\n".join(rows)
    )
    publish("Crowds, churn and clients that don't read", body, args.write, "trimtab", "grpcio")


if __name__ == "__main__":
    main()
