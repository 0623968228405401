"""Zones, simulated: what leaves its zone, what that does to latency, and what each zone's pods bear.

The production balancer in each client. Service time is 10 ms on average (exponential), pods have four
workers; a round trip takes 0.5 ms, to another zone 1 ms more. 60 pods. Latencies are given in mean
service times; `cross` is the % of requests that left their zone, `busy` the utilization of each zone's
workers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from machine import publish
from policies import WORKERS, World, mean, table, verdict
from trimtab.model import PolicyConfig
from trimtab.policies.zones import Zones

Figures = dict[str, float]
Happens = Callable[[World, bool], None]

EVEN = {"a": 20, "b": 20, "c": 20}
UNEVEN = {"a": 42, "b": 12, "c": 6}
BEGIN_S, END_S = 18.0, 30.0


class ByCounts(Zones):
    """A peer: the split by counts alone, as Envoy's zone aware routing has it."""

    def _tick(self, now: float) -> None:
        self._due = now + 1e9

    def update(self, nodes: Any, now: float) -> None:
        super().update(nodes, now)
        if self._stay is not None and self.base:
            self._stay = self.base.get(self._own, 0.0)
            self._weigh()

    def _spare(self, capacity: Mapping[str, float]) -> Mapping[str, float]:
        base = {name: self.base.get(name, 0.0) for name in capacity}
        return base if any(base.values()) else capacity


def nothing(_world: World, _split: bool) -> None:
    pass


def of_zone(world: World, zone: str) -> list[Any]:
    return [s for s in world.servers if s.endpoint.locality.zone == zone]


def slowed(world: World, _split: bool) -> None:
    """All pods of zone a are twice as slow, from the beginning."""
    for server in of_zone(world, "a"):
        server.slow = 2.0


def lost(world: World, split: bool, part: float = 1.0) -> None:
    """Pods of zone a are gone at 20 s; clients are told after 0.2 s; they are back at 24 s."""
    there = of_zone(world, "a")
    gone = there[: int(len(there) * part)]
    engine = world.engine

    def leave() -> None:
        for server in gone:
            server.gone = True

    def back() -> None:
        for server in gone:
            server.gone = False
        engine.publish(world.servers, world.clients, split=split)

    engine.at(20.0, leave)
    left = [s for s in world.servers if s not in gone]
    engine.at(20.2, lambda: engine.publish(left, world.clients, split=split))
    engine.at(24.0, back)


def half_lost(world: World, split: bool) -> None:
    """The same with half of the pods."""
    lost(world, split, 0.5)


Case = tuple[str, dict[str, Any], Happens]
CASES: tuple[Case, ...] = (
    ("Even, 70 % load", {"clients": EVEN, "servers": EVEN, "rho": 0.7}, nothing),
    ("Clients 70/20/10, 35 % load", {"clients": UNEVEN, "servers": EVEN, "rho": 0.35}, nothing),
    ("Clients 70/20/10, 50 % load", {"clients": UNEVEN, "servers": EVEN, "rho": 0.5}, nothing),
    ("Clients 70/20/10, 70 % load", {"clients": UNEVEN, "servers": EVEN, "rho": 0.7}, nothing),
    ("Servers 30/20/10, 70 %", {"clients": EVEN, "servers": {"a": 30, "b": 20, "c": 10}, "rho": 0.7}, nothing),
    ("A zone of one pod, servers 1/29/30, 70 %", {"clients": EVEN, "servers": {"a": 1, "b": 29, "c": 30}, "rho": 0.7}, nothing),
    ("Hidden skew: clients of zone a are 2.2 times as busy, 60 %", {"clients": EVEN, "servers": EVEN, "rho": 0.6, "busy": {"a": 2.2}}, nothing),
    ("Zone a twice as slow, 50 %", {"clients": EVEN, "servers": EVEN, "rho": 0.5}, slowed),
    ("Zone a lost for 4 s, and back, 50 %", {"clients": EVEN, "servers": EVEN, "rho": 0.5}, lost),
    ("Half of zone a lost for 4 s, and back, 50 %", {"clients": EVEN, "servers": EVEN, "rho": 0.5}, half_lost),
    ("600 clients 70/20/10, 35 %", {"clients": {"a": 420, "b": 120, "c": 60}, "servers": EVEN, "rho": 0.35}, nothing),
)  # fmt: skip
OFF, COUNTS, ALONE, FULL, STRICT = (
    "off: zone-blind",
    "by counts alone, as Envoy's zone aware routing",
    "prefer, without the control plane's split",
    "prefer, with it",
    "strict",
)


def zoned(
    policy: PolicyConfig,
    setting: dict[str, Any],
    seed: int,
    *,
    split: bool = False,
    happens: Happens = nothing,
    counts: bool = False,
    prepare: Callable[[World], object] = lambda _world: None,
) -> Figures:
    world = World(
        policy, seed, seconds=END_S, warmup=BEGIN_S, cross_s=0.001, split=split, **setting
    )
    prepare(world)
    if counts:
        for client in world.clients:
            by_counts(client.balancer)
        world.engine.publish(world.servers, world.clients, split=True)
    happens(world, split or counts)
    run = world.run()
    for zone in ("a", "b", "c"):
        there = of_zone(world, zone)
        run[f"busy {zone}"] = sum(s.work_s for s in there) / (END_S * WORKERS * len(there))
    return run


def by_counts(balancer: Any) -> None:
    """Let the peer divide in place of the production class; what is inside a zone stays."""
    zones = balancer._stack.zones  # noqa: SLF001
    zones.__class__ = ByCounts


def measured(case: Case, row: str, seeds: int) -> Figures | None:
    _, setting, happens = case
    if row == STRICT and overloaded(setting, happens):
        return None
    zone = {OFF: "off", STRICT: "strict"}.get(row, "prefer")
    how = {"split": row == FULL, "counts": row == COUNTS, "happens": happens}
    return mean(
        [
            zoned(PolicyConfig.of("token", zone=zone), setting, seed, **how)
            for seed in range(1, seeds + 1)
        ]
    )


def overloaded(setting: dict[str, Any], happens: Happens) -> bool:
    """Whether a zone on its own could not bear its clients."""
    clients, servers, rho = setting["clients"], setting["servers"], setting["rho"]
    busy = {z: n * setting.get("busy", {}).get(z, 1.0) for z, n in clients.items()}
    total, pods = sum(busy.values()), sum(servers.values())
    slow = {"a": {slowed: 2.0, half_lost: 2.0}.get(happens, 1.0)}
    return any(busy[z] / total * rho * pods * slow.get(z, 1.0) > 0.98 * servers[z] for z in servers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    parts, found = [], {}
    for case in CASES:
        rows = {
            row: figures
            for row in (OFF, COUNTS, ALONE, FULL, STRICT)
            if (figures := measured(case, row, args.seeds)) is not None
        }
        found[case[0]] = rows
        columns = ("cross", "errors", "p50", "p99", "p99.9", "busy a", "busy b", "busy c")
        parts.append(f"## {case[0]}\n\n{table(rows, *columns)}")
        print(f"{case[0]}: done", flush=True)
    calm, busy, slow, many = (found[CASES[n][0]] for n in (1, 3, 7, 10))
    most = max(busy[FULL][f"busy {z}"] for z in "abc")
    verdicts = (
        verdict("Clients 70/20/10 at 35 %, cross-zone %", calm[FULL]["cross"], 5.0),
        verdict("Its p99 / zone-blind", calm[FULL]["p99"] / calm[OFF]["p99"], 1.03),
        verdict("600 clients likewise, cross-zone %", many[FULL]["cross"], 5.0),
        verdict("Their p99 / zone-blind", many[FULL]["p99"] / many[OFF]["p99"], 1.03),
        verdict("At 70 %, the busiest zone's utilization", most, 0.99),
        verdict("Slow zone, p99 / zone-blind", slow[FULL]["p99"] / slow[OFF]["p99"], 1.5),
    )
    intro = __doc__.split("\n", 2)[2].strip()
    publish(
        "Zones, simulated",
        f"{intro} Figures are of the seconds {BEGIN_S:g} to {END_S:g}, means over {args.seeds} seeds; "
        "`busy` is of the whole run. The policy inside a zone is `token`. `strict` is left out where it "
        "would overload a zone for good. Each of 600 clients sends a tenth of what one of 60 does: its zones' means are of "
        f"fewer answers, and the spill-over that follows them is less exact.\n\n{' '.join(verdicts)}\n\n"
        + "\n\n".join(parts),
        args.write,
    )


if __name__ == "__main__":
    main()
