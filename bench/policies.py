"""The policies side by side, in the simulator that runs the production balancer in each client.

Each table is one case; every figure is a mean over seeds. Service time is 10 ms on average, pods have
four workers, a round trip takes 0.5 ms. Latencies are given in mean service times.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from itertools import pairwise
from math import inf
from pathlib import Path
from random import Random
from typing import Any

from machine import publish
from policies_chart import chart
from trimtab.load_report import LoadReport
from trimtab.model import Locality, PolicyConfig
from trimtab.policies import Outcome
from trimtab.sim.engine import Client, Engine, endpoint
from trimtab.sim.server import Server
from trimtab.sim.service_time import Draw, exponential, lognormal

MEAN_S, WORKERS, ONE_WAY_S = 0.010, 4, 0.00025
GLOBAL = "join shortest queue, global knowledge"
Row = tuple[str, PolicyConfig | None]


def bare(name: str, **params: float | str) -> PolicyConfig:
    return PolicyConfig.of(name, judges=False, **params)


ALL: tuple[Row, ...] = (
    ("random", bare("random")),
    ("round_robin", bare("round_robin")),
    ("p2c", bare("p2c")),
    ("p2c_ewma", bare("p2c_ewma")),
    ("prequal, the paper's parameters", bare("prequal")),
    ("prequal, tuned", bare("prequal", size=8, remove=0.5)),
    ("token", bare("token")),
    ("token with its judges", PolicyConfig("token")),
    (GLOBAL, None),
)


class Knowing:
    """A bound: a balancer that sees every server's true outstanding requests, and how fast it is."""

    probing = False

    def __init__(self, engine: Engine, outstanding: dict[Server, int]) -> None:
        self._engine = engine
        self._outstanding = outstanding
        self._servers: list[Server] = []

    def update(self, snapshot: Any) -> Any:
        self._servers = [self._engine.servers[e.key] for e in snapshot.endpoints]
        return type("Change", (), {"added": (), "removed": ()})()

    def pick(self) -> Any:
        known = self._outstanding
        server = min(self._servers, key=lambda s: (known.get(s, 0) + 1) * s.slow / s.workers)
        known[server] = known.get(server, 0) + 1
        return Known(self, server)

    def ended(self, server: Server) -> None:
        self._outstanding[server] -= 1


class Known:
    def __init__(self, balancer: Knowing, server: Server) -> None:
        self._balancer = balancer
        self._server = server
        self.node = type("Node", (), {"transport": server})()

    def finish(self, _outcome: Outcome, _report: LoadReport | None = None) -> None:
        self._balancer.ended(self._server)


class World:
    """Clients and servers, ready to run."""

    def __init__(
        self,
        policy: PolicyConfig | None,
        seed: int,
        *,
        clients: int | dict[str, int],
        servers: int | dict[str, int],
        rho: float,
        seconds: float,
        warmup: float,
        draw: Callable[[Random], Draw] | None = None,
        cross_s: float = 0.0,
        capacity: float = 1.0,
        split: bool = False,
        busy: dict[str, float] | None = None,
    ) -> None:
        self.random = Random(seed)
        service = Random(seed + 1)
        self.seconds = seconds
        self.engine = Engine(
            draw=draw(service) if draw else exponential(MEAN_S, service),
            random=self.random,
            delay=lambda a, b: ONE_WAY_S + (cross_s / 2 if a != b else 0.0),
            warmup_s=warmup,
        )
        zones = servers if isinstance(servers, dict) else {"": servers}
        self.servers = [
            Server(endpoint(i, locality=Locality("r", zone)), WORKERS)
            for i, zone in enumerate(z for z, n in zones.items() for _ in range(n))
        ]
        outstanding: dict[Server, int] = {}
        where = clients if isinstance(clients, dict) else {"": clients}
        self.clients = [
            self._client(policy, zone, seed * 1000 + i, outstanding)
            for i, zone in enumerate(z for z, n in where.items() for _ in range(n))
        ]
        self.engine.publish(self.servers, self.clients, split=split)
        self.rate = rho * WORKERS * len(self.servers) / MEAN_S * capacity
        # Clients of a busier zone are in the draw more often.
        drawn = [c for c in self.clients for _ in range(int(10 * (busy or {}).get(c.zone, 1.0)))]
        n = len(drawn)
        self.engine.open_loop(self.rate, seconds, lambda: drawn[int(self.random.random() * n)])

    def _client(
        self, policy: PolicyConfig | None, zone: str, seed: int, outstanding: dict[Server, int]
    ) -> Client:
        if policy is not None:
            return self.engine.add_client(zone, policy, Random(seed))
        client = Client(zone, Knowing(self.engine, outstanding))
        self.engine.clients.append(client)
        return client

    def run(self) -> dict[str, float]:
        self.engine.run()
        tally = self.engine.tally
        ordered = sorted(tally.latencies)
        picks = [tally.picks.get(s.endpoint.address, 0) for s in self.servers]
        found = {
            name: ordered[int(len(ordered) * q)] / MEAN_S
            for name, q in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
        }
        found["max/mean"] = max(picks) / statistics.mean(picks)
        found["errors"] = 100.0 * len(tally.failures) / tally.requests
        found["cross"] = 100.0 * tally.crossed / tally.requests
        return found


def mean(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.mean(run[key] for run in runs) for key in runs[0]}


def compare(
    seeds: int, rows: tuple[Row, ...], make: Callable[[PolicyConfig | None, int], World]
) -> dict[str, dict[str, float]]:
    return {
        name: mean([make(policy, seed).run() for seed in range(1, seeds + 1)])
        for name, policy in rows
    }


def table(found: dict[str, dict[str, Any]], *columns: str) -> str:
    rows = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in found.items():
        cells = (row[c] if isinstance(row[c], str) else f"{row[c]:.3g}" for c in columns)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def drawn(case: str, found: dict[str, dict[str, float]]) -> None:
    """Remember a case for the picture."""
    DRAWN[case] = {name: row["p99"] for name, row in found.items()}


def verdict(what: str, value: float, most: float, why: str = "") -> str:
    """``why``: of a target that is missed, and what would be needed."""
    said = "reached." if value <= most else f"missed. {why}".strip()
    return f"{what}: {value:.4g}, target at most {most:g}: {said}"


def equal(seeds: int) -> str:
    parts = []
    for rho in (0.8, 0.95):
        found = compare(
            seeds,
            ALL,
            lambda policy, seed, rho=rho: World(
                policy, seed, clients=100, servers=100, rho=rho, seconds=5.0, warmup=1.0
            ),
        )
        parts.append(f"### At {rho:.0%} load\n\n{table(found, 'p50', 'p99', 'p99.9', 'max/mean')}")
        drawn(f"100 clients, 100 equal pods, {rho:.0%} load", found)
        if rho == 0.8:
            ratio = found["token with its judges"]["p99"] / found[GLOBAL]["p99"]
            parts.append(verdict("p99 of token with its judges / global knowledge", ratio, 1.06))
    return "## 100 clients, 100 equal pods\n\n" + "\n\n".join(parts)


def tailed(seeds: int) -> str:
    found = compare(
        seeds,
        ALL,
        lambda policy, seed: World(
            policy, seed, clients=100, servers=100, rho=0.8, seconds=5.0, warmup=1.0,
            draw=lambda random: lognormal(MEAN_S, 1.0, random),
        ),
    )  # fmt: skip
    drawn("100 x 100, lognormal service times, 80% load", found)
    return f"## The same with lognormal service times, sigma 1\n\n{table(found, 'p50', 'p99', 'p99.9')}"


def unequal(seeds: int) -> str:
    def make(policy: PolicyConfig | None, seed: int) -> World:
        world = World(
            policy, seed, clients=100, servers=100, rho=0.76, seconds=7.0, warmup=2.0, capacity=0.75
        )
        for number, server in enumerate(world.servers):
            server.slow = 1.0 + number % 2
        antagonist, hit = Random(seed + 7), list[Server]()

        def move() -> None:
            for server in hit:
                server.slow /= 2
            hit[:] = antagonist.sample(world.servers, 10)
            for server in hit:
                server.slow *= 2
            if world.engine.now < world.seconds:
                world.engine.at(world.engine.now + 0.3, move)

        move()
        return world

    found = compare(seeds, ALL, make)
    drawn("Half of the pods twice as slow, and an antagonist", found)
    ratio = found["token with its judges"]["p99"] / found["prequal, tuned"]["p99"]
    return (
        "## Half of the pods twice as slow, and an antagonist\n\nEvery 0.3 s it slows ten other pods by "
        f"two. 100 clients, 100 pods, 76 % of the capacity without it.\n\n"
        f"{table(found, 'p50', 'p99', 'p99.9', 'max/mean')}\n\n"
        f"{verdict('p99 of token with its judges / tuned Prequal', ratio, 1.25)}"
    )


def out_of_reach(bound: float) -> str:
    """Why many clients with few requests each don't reach their target."""
    if bound > 0.65:
        return "Global knowledge doesn't reach it at this load either, so no policy can."
    return (
        "A client of 400 sees one answer in 400, so its tokens are old. Needed: knowledge that clients share, "
        "such as probes or a proxy's view."
    )


def many(seeds: int) -> str:
    parts = []
    for rho in (0.8, 0.9):
        found = compare(
            seeds,
            ALL,
            lambda policy, seed, rho=rho: World(
                policy, seed, clients=400, servers=60, rho=rho, seconds=8.0, warmup=2.0
            ),
        )
        ratio = found["token with its judges"]["p99"] / found["p2c"]["p99"]
        bound = found[GLOBAL]["p99"] / found["p2c"]["p99"]
        drawn(f"400 clients, 60 pods, {rho:.0%} load", found)
        parts.append(
            f"### At {rho:.0%} load\n\n{table(found, 'p50', 'p99', 'p99.9', 'max/mean')}\n\n"
            f"{verdict('p99 of token with its judges / p2c', ratio, 0.65, out_of_reach(bound))} "
            f"Global knowledge: {bound:.2f}."
        )
    return "## 400 clients, 60 pods\n\n" + "\n\n".join(parts)


JUDGED: tuple[Row, ...] = tuple(
    (f"{policy}, {what}", PolicyConfig.of(policy, **params))
    for policy in ("p2c", "token")
    for what, params in (
        ("no judges", {"judges": False}),
        ("error bias alone", {"eject": False}),
        ("ejection alone", {"error_bias": 0.0}),
        ("both", {}),
    )
)


def failing(seeds: int) -> str:
    parts = []
    for part, what in ((1.0, "every request"), (0.5, "half"), (0.1, "a tenth")):
        rows = {}
        for name, policy in JUDGED:
            runs = []
            for seed in range(1, seeds + 1):
                world = World(
                    policy, seed, clients=20, servers=20, rho=0.7, seconds=22.0, warmup=2.0
                )
                bad = world.servers[0]
                world.engine.at(2.0, lambda bad=bad, part=part: setattr(bad, "failing", part))
                run = world.run()
                failures, rate = world.engine.tally.failures, world.rate
                run["first 2 s"] = 100 * sum(t < 4.0 for t in failures) / (2 * rate)
                run["from 10 s on"] = 100 * sum(t >= 12.0 for t in failures) / (10 * rate)
                runs.append(run)
            rows[name] = mean(runs)
        ours = rows["token, both"]
        parts.append(f"### It fails {what}\n\n{table(rows, 'errors', 'first 2 s', 'from 10 s on')}")
        if part != 0.5:
            parts.append(
                f"{verdict('token, both, % of requests from 10 s on', ours['from 10 s on'], 0.1)} "
                f"{verdict('In the first 2 s', ours['first 2 s'], 0.9)}"
            )
    return (
        "## One pod of 20 fails at once\n\nErrors, % of all requests; no retries. 20 clients, 70 % load; "
        "a failure takes a twentieth of the mean service time.\n\n" + "\n\n".join(parts)
    )


def cold(seeds: int) -> str:
    rows: dict[str, dict[str, Any]] = {}
    for policy in ("p2c", "token"):
        for slow_start in (0.0, 3.0, 10.0):
            for cold in (0, 500):
                runs = []
                for seed in range(1, seeds + 1):
                    config = PolicyConfig.of(policy, slow_start_s=slow_start)
                    runs.append(one_cold(config, seed, cold))
                name = f"{policy}, slow start {slow_start:g} s, {'cold' if cold else 'warm'}"
                times = [run.pop("in fair share after") for run in runs]
                rows[name] = mean(runs)
                rows[name]["in fair share after"] = seconds(times)
    ours = rows["token, slow start 10 s, cold"]["p99"] / rows["token, slow start 10 s, warm"]["p99"]
    return (
        "## A cold pod joins 19 warm ones\n\nIts first 500 requests take five times as long. 20 clients, "
        "70 % load; from its coming for 30 s. A warm pod in its place is the yardstick. `in fair share "
        "after`: seconds until it serves 80 % of its fair share, the median; where it does not within the 30 s, "
        "in how many of the runs. Its ramp, held back by slow answers, ends then at the latest.\n\n"
        f"{table(rows, 'p99', 'p99.9', 'served in the first 10 s', 'in fair share after')}\n\n"
        f"{verdict('p99 of token with slow start of 10 s, cold / warm', ours, 1.05)}"
    )


def seconds(times: list[float]) -> str:
    """The median, and in how many runs there was none (``inf``)."""
    never = sum(t == inf for t in times)
    median = statistics.median(times)
    shown = "over 30" if median == inf else f"{median:g}"
    return f"{shown} ({never} of {len(times)} not within 30)" if never else shown


def one_cold(
    config: PolicyConfig,
    seed: int,
    cold: int,
    prepare: Callable[[World], object] = lambda _world: None,
) -> dict[str, float]:
    world = World(config, seed, clients=20, servers=20, rho=0.7, seconds=32.0, warmup=2.0)
    prepare(world)
    engine, new = world.engine, world.servers[-1]
    engine.publish(world.servers[:-1], world.clients)
    new.cold, new.cold_factor = cold, 5.0
    engine.at(2.0, lambda: engine.publish(world.servers, world.clients))
    served: list[int] = []

    def look() -> None:
        served.append(new.served)
        if engine.now < 32.0:
            engine.at(engine.now + 1.0, look)

    engine.at(2.0, look)
    run = world.run()
    fair = world.rate / 20
    by_second = [b - a for a, b in pairwise(served)]
    run["served in the first 10 s"] = float(served[10] - served[0])
    run["in fair share after"] = next(
        (i + 1.0 for i, n in enumerate(by_second) if n >= 0.8 * fair), inf
    )
    return run


def small(seeds: int) -> str:
    parts = []
    for n in (4, 20, 200):
        found = compare(
            seeds,
            (*(row for row in ALL if not row[0].startswith("prequal")),),
            lambda policy, seed, n=n: World(
                policy, seed, clients=n, servers=8, rho=0.7, seconds=10.0, warmup=1.0
            ),
        )
        parts.append(f"### {n} clients\n\n{table(found, 'p50', 'p99', 'p99.9', 'max/mean')}")
    return "## A small fleet: 8 pods, 70 % load\n\n" + "\n\n".join(parts)


DRAWN: dict[str, dict[str, float]] = {}

CASES = {
    "equal": equal,
    "tailed": tailed,
    "unequal": unequal,
    "many": many,
    "small": small,
    "failing": failing,
    "cold": cold,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    args = parser.parse_args()
    chosen = [case for case in CASES if not args.cases or case in args.cases]
    parts = [__doc__.split("\n", 2)[2].strip()]
    for case in chosen:
        parts.append(CASES[case](args.seeds))
        print(f"{case} is done", flush=True)
    picture = ""
    if args.write and DRAWN:
        file = Path(args.write).with_suffix(".svg")
        file.write_text(chart(DRAWN, GLOBAL))
        picture = f"![p99 of the policies]({file.name})\n\n"
    publish(
        "The policies, simulated",
        f"{parts[0]} {args.seeds} seeds.\n\n{picture}" + "\n\n".join(parts[1:]),
        args.write,
    )


if __name__ == "__main__":
    main()
