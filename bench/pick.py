"""What one decision costs: the policy's choice alone, and the balancer's pick with its finish.

Nanoseconds on this machine; what counts is that they don't grow with the number of endpoints, and
the ratio to a bare Python method call in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from itertools import cycle
from random import Random

from machine import publish
from trimtab.balancer import Balancer
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, PolicyConfig, Snapshot
from trimtab.policies import Outcome

SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 7
POLICIES = ("p2c", "p2c_ewma", "prequal", "round_robin", "weighted_round_robin", "random")
TARGET_NS = 1_500
FLAT = 1.25


REPORTS = [LoadReport(in_flight=n % 7, latency=0.010 + 0.001 * (n % 5)) for n in range(35)]


def made(
    n: int, policy: str, lock: threading.RLock | None = None, *, judges: bool = True
) -> Balancer:
    endpoints = tuple(
        Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 8080) for i in range(1, n + 1)
    )
    balancer = Balancer(
        "bench",
        clock=time.monotonic,
        random=Random(1),
        policy=PolicyConfig.of(policy, judges=judges),
        lock=lock,
    )
    balancer.update(Snapshot("bench", endpoints))
    return balancer


class Bare:
    """The yardstick: a method that does nothing."""

    def call(self) -> None: ...


def ended(balancer: Balancer) -> None:
    balancer.pick().finish(Outcome.SUCCESS)


def nanoseconds(step: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter_ns()
    for _ in range(calls):
        step()
    return (time.perf_counter_ns() - begin) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--calls", type=int, default=100_000, help="calls per round")
    options = parser.parse_args()

    now = time.monotonic()
    cases: dict[tuple[str, int], Callable[[], object]] = {("bare call", 0): Bare().call}
    for n in SIZES:
        for policy in POLICIES:
            bare, judged = made(n, policy, judges=False), made(n, policy)
            cases[f"choice {policy}", n] = lambda b=bare, now=now: b._stack.pick(now)  # noqa: SLF001
            cases[f"pick + finish {policy}, no judges", n] = lambda b=bare: ended(b)
            cases[f"pick + finish {policy}", n] = lambda b=judged: ended(b)
        keys = cycle([f"user-{i}" for i in range(997)])
        ring = made(n, "ring_hash", judges=False)
        cases["choice ring_hash, with a key", n] = lambda b=ring, now=now, k=keys: b._stack.pick(  # noqa: SLF001
            now, next(k)
        )
        locked = made(n, "p2c", threading.RLock())
        cases["pick + finish p2c, locked", n] = lambda b=locked: ended(b)
        told, numbers = made(n, "token"), cycle(REPORTS)
        cases["pick + finish token, with reports", n] = lambda b=told, r=numbers: b.pick().finish(
            Outcome.SUCCESS, next(r)
        )

    found: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    order = list(cases)
    shuffle = Random(3)
    for _ in range(ROUNDS):
        shuffle.shuffle(order)
        for case in order:
            found[case].append(nanoseconds(cases[case], options.calls))
    median = {case: statistics.median(times) for case, times in found.items()}

    rows = ["| what | " + " | ".join(f"{n:,}" for n in SIZES) + " | 10,000 : 10 |"]
    rows.append("|---|" + "---|" * (len(SIZES) + 1))
    for what in dict.fromkeys(name for name, n in cases if n):
        cells = [f"{median[what, n]:.0f}" for n in SIZES]
        ratio = median[what, SIZES[-1]] / median[what, SIZES[0]]
        rows.append(f"| {what} | " + " | ".join(cells) + f" | {ratio:.2f} |")
    worst = max(median["pick + finish p2c, locked", n] for n in SIZES)
    flat = median["pick + finish p2c", SIZES[-1]] / median["pick + finish p2c", SIZES[0]]
    grow = [
        what.removeprefix("choice ").split(",")[0]
        for what, n in median
        if n == SIZES[-1]
        and what.startswith("choice")
        and median[what, n] > FLAT * median[what, SIZES[0]]
    ]
    verdict = (
        f"Target: pick + finish of p2c at most {TARGET_NS:,} ns at any size and flat. "
        f"Worst seen, with the lock of the sync door: {worst:,.0f} ns "
        f"({'reached' if worst <= TARGET_NS else 'missed'}); 10,000 endpoints cost "
        f"{flat:.2f} times what 10 do ({'flat' if flat <= FLAT else 'not flat'}). "
        f"Choices that cost more than {FLAT:g} times as much at 10,000 as at 10: {', '.join(grow) or 'none'}. The work "
        "is the same, or grows with the logarithm; what memory is touched lies in caches no more. "
        f"A bare method call, called the same way: {median['bare call', 0]:.0f} ns; "
        f"all figures include one such call."
    )
    publish(
        "One decision",
        "Nanoseconds per operation by number of endpoints, median of "
        f"{ROUNDS} shuffled rounds of {options.calls:,} calls.\n\n"
        + "\n".join(rows)
        + f"\n\n{verdict}",
        options.write,
    )


if __name__ == "__main__":
    main()
