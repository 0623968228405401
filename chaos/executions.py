"""Is a request that nobody declared safe ever executed twice? Counted by the servers, while they are killed.

Six servers, each a process; every second or so one gets SIGKILL in the middle of its work and is started again
at its port. Each request carries a number of its own, and a server writes it to a file before it answers, so
that what it did outlives it. Between the two it rests for 5 to 20 ms, so that most requests that a kill meets have
been executed already: were they made again, it would show. Those that were declared are, and are the control. At the
end the files are compared with what the client was told.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos import work_grpc, work_http
from chaos.work import AGAIN, CALLERS, NUMBER, PLAIN, ROOT, SERVERS, Server, Told

GRPC, HTTP = "chaos.work_grpc", "chaos.work_http"


@dataclass(frozen=True)
class Door:
    """One way to call.

    Attributes:
        serves: the module that is its server.
        load: makes all calls.
        part: of the calls of the first door that it makes, as it is slower.
    """

    serves: str
    load: Callable[[list[Server], dict[str, int], Random], Told]
    part: float


DOORS = {
    "gRPC, asyncio": Door(GRPC, work_grpc.on_loop, 1.0),
    "gRPC, threads": Door(GRPC, work_grpc.in_threads, 0.2),
    "httpx, asyncio": Door(HTTP, work_http.through_httpx, 0.1),
    "httpx, threads": Door(HTTP, work_http.through_httpx_in_threads, 0.1),
    "aiohttp": Door(HTTP, work_http.through_aiohttp, 0.2),
}


@dataclass(frozen=True)
class Counted:
    """One method's executions beside what the client was told.

    Attributes:
        calls: made.
        good: of these ended well.
        failed: by status or error.
        twice: numbers executed more than once.
        lost: numbers that ended well and were never executed.
        unknown: numbers that failed although they were executed.
    """

    calls: int
    good: int
    failed: Counter[str]
    twice: int
    lost: int
    unknown: int


def count(name: str, calls: int, told: Told, executed: Counter[int]) -> Counted:
    own = Counter({n: times for n, times in executed.items() if n % 2 == (name == AGAIN)})
    good = told.good[name]
    return Counted(
        calls,
        len(good),
        told.failed[name],
        sum(times > 1 for times in own.values()),
        len(good - own.keys()),
        len(own.keys() - good),
    )


def measure(door: str, calls: dict[str, int], seed: int = 1) -> tuple[dict[str, Counted], Told]:
    """By method what was counted, and what the client was told."""
    with tempfile.TemporaryDirectory() as directory:
        servers = [Server(DOORS[door].serves, Path(directory) / str(n)) for n in range(SERVERS)]
        try:
            told = DOORS[door].load(servers, calls, Random(seed))
        finally:
            for server in servers:
                server.kill()
        executed: Counter[int] = Counter()
        for server in servers:
            executed.update(n for (n,) in NUMBER.iter_unpack(server.path.read_bytes()))
    return {name: count(name, n, told, executed) for name, n in calls.items()}, told


def row(what: str, counted: Counted) -> str:
    failed = ", ".join(f"{n} {how}" for how, n in sorted(counted.failed.items())) or "0"
    return (
        f"| {what} | {counted.calls:,} | {counted.good:,} | {failed} | {counted.twice} "
        f"| {counted.lost} | {counted.unknown} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chaos.executions", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000, help="of which nothing is declared")
    parser.add_argument("--declared", type=int, default=100_000, help="that may run again")
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "bench"))
    from machine import publish  # noqa: PLC0415 - found on the path that was made just now

    rows, again, kills, missed = [], [], 0, 0
    for name, door in DOORS.items():
        calls = {PLAIN: int(given.calls * door.part), AGAIN: int(given.declared * door.part)}
        found, told = measure(name, calls)
        print(f"{name}: {told.kills} kills", file=sys.stderr)
        kills += told.kills
        again.append(f"{name}: {told.left_again} of {told.watched:,}")
        rows += [
            row(f"{name}, nothing declared", found[PLAIN]),
            row(f"{name}, declared", found[AGAIN]),
        ]
        if not found[AGAIN].twice:
            raise SystemExit(f"{name}: no declared request was executed twice: this shows nothing")
        missed += sum(found[AGAIN].failed.values())
    publish(
        "Executions, counted by the servers",
        f"{__doc__.partition(chr(10))[2].strip()}\n\n{kills} kills; {CALLERS} callers, tasks or threads, on one "
        f"channel or client, {SERVERS} servers. Declared: over gRPC up to three attempts on UNAVAILABLE; over HTTP PUT "
        "instead of POST, up to three attempts.\n\n"
        "| requests | made | ended well | failed | executed more than once | ended well and never executed "
        "| failed and yet executed |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nA request of which nothing is declared must never be executed more than once; one that was declared "
        "may be, and is where a server died between the work and the answer. "
        f"Of those none should fail: {'reached' if not missed else f'missed, {missed} did'}.\n\n"
        "A request of which nothing is declared leaves again if it has provably reached nobody. Of those whose attempts "
        f"were looked at, so many did: {'; '.join(again)}.",
        given.write,
        "grpcio",
        "httpx",
        "aiohttp",
    )


if __name__ == "__main__":
    main()
