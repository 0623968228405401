"""What each part of the default adds: it is taken out alone, and the same cases run again.

Simulated with the production balancer in each client, as in policies.md. Service time is 10 ms on
average, pods have four workers, a round trip takes 0.5 ms, to another zone 1 ms more. p99 and p99.9 are
in mean service times; errors and cross-zone requests in % of all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from random import Random
from typing import Any

from machine import publish
from policies import World, mean, one_cold
from trimtab.load_report import LoadReport
from trimtab.model import PolicyConfig
from trimtab.sim.server import Server
from zones import EVEN, UNEVEN, slowed, zoned

Figures = dict[str, float]


class Silent:
    """A server that sends no load reports."""

    def __init__(self, meter: Any) -> None:
        self.begin, self.end = meter.begin, meter.end

    def report(self) -> LoadReport | None:
        return None


def hushed(world: World, reports: bool) -> World:
    if not reports:
        for server in world.servers:
            server.meter = Silent(server.meter)  # type: ignore[assignment]
    return world


def config(name: str, params: dict[str, Any]) -> PolicyConfig:
    return PolicyConfig.of(name, **params)


def even(policy: PolicyConfig, seed: int, reports: bool) -> Figures:
    world = World(policy, seed, clients=100, servers=100, rho=0.8, seconds=4.0, warmup=1.0)
    return {"even: p99": hushed(world, reports).run()["p99"]}


def moving(policy: PolicyConfig, seed: int, reports: bool) -> Figures:
    world = World(
        policy, seed, clients=100, servers=100, rho=0.76, seconds=6.0, warmup=2.0, capacity=0.75
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
    return {"uneven pods: p99": hushed(world, reports).run()["p99"]}


def failing(policy: PolicyConfig, seed: int, reports: bool) -> Figures:
    found = {}
    for part, name in (
        (1.0, "dead pod: errors"),
        (0.5, "half fails: errors"),
        (0.1, "a tenth fails: errors"),
    ):
        world = World(policy, seed, clients=20, servers=20, rho=0.7, seconds=14.0, warmup=2.0)
        bad = world.servers[0]
        world.engine.at(2.0, lambda bad=bad, part=part: setattr(bad, "failing", part))
        found[name] = hushed(world, reports).run()["errors"]
    return found


def cold(policy: PolicyConfig, seed: int, reports: bool) -> Figures:
    run = one_cold(policy, seed, 500, prepare=lambda world: hushed(world, reports))
    return {"cold pod: p99.9": run["p99.9"]}


def zones(policy: PolicyConfig, seed: int, reports: bool) -> Figures:
    def prepare(world: World) -> object:
        return hushed(world, reports)

    calm = zoned(policy, {"clients": UNEVEN, "servers": EVEN, "rho": 0.35}, seed, prepare=prepare)
    slow = zoned(
        policy,
        {"clients": EVEN, "servers": EVEN, "rho": 0.5},
        seed,
        happens=slowed,
        prepare=prepare,
    )
    return {"zones: cross": calm["cross"], "zones: p99": calm["p99"], "slow zone: p99": slow["p99"]}


CASES: tuple[Callable[[PolicyConfig, int, bool], Figures], ...] = (
    even,
    moving,
    failing,
    cold,
    zones,
)
ROWS: tuple[tuple[str, PolicyConfig, bool], ...] = (
    ("the default", config("token", {}), True),
    ("without load reports", config("token", {}), False),
    ("without tokens (`p2c`)", config("p2c", {}), True),
    ("without ejection", config("token", {"eject": False}), True),
    ("without stalls", config("token", {"stalls": False}), True),
    ("without error bias", config("token", {"error_bias": 0.0}), True),
    ("without slow start", config("token", {"slow_start_s": 0.0}), True),
    ("without zones", config("token", {"zone": "off"}), True),
    ("without all judges", config("token", {"judges": False}), True),
    ("`p2c` without all judges", config("p2c", {"judges": False}), True),
    ("`round_robin` without all judges", config("round_robin", {"judges": False}), True),
)

REST = (
    "Two parts change little here. Ejection is for what the error bias leaves: by the time an endpoint is out, its share is "
    "nearly nothing, and while it is out nobody learns that it is back. Stalls are for endpoints that say "
    "nothing at all, which no case here has: [a silent one of ten](silent-pod.md)."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    found: dict[str, Figures] = {}
    for name, policy, reports in ROWS:
        runs = [
            {key: value for case in CASES for key, value in case(policy, seed, reports).items()}
            for seed in range(1, args.seeds + 1)
        ]
        found[name] = mean(runs)
        print(f"{name} is done", flush=True)
    columns = list(found["the default"])
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    base = found["the default"]
    for name, row in found.items():
        cells = (f"**{v:.3g}**" if v > 1.05 * base[c] else f"{v:.3g}" for c, v in row.items())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    intro = __doc__.split("\n", 2)[2].strip()
    publish(
        "What each part adds",
        f"Each part of the default is taken out alone, and the same cases run again.\n\n{intro} "
        f"{args.seeds} seeds. **Bold**: worse than the default by more than 5 %.\n\n"
        + "\n".join(lines)
        + f"\n\n{REST}",
        args.write,
    )


if __name__ == "__main__":
    main()
