"""Faults of pods, networks and the control plane, under the same load through several clients at once.

Eight pods, each a process; one control plane (trimtab serve) that native gRPC (proxyless, round_robin),
an Envoy and trimtab's client follow, each with what it gives them by default, outlier detection included; no
retries, no keepalive settings. The last column is trimtab's client once more, told by a service config that the
methods may run again: up to three attempts on UNAVAILABLE. A request has failed that ended with an error or took
more than a second. For each fault the table says how many of the requests that began after it failed, and when the last of them
began: the time to recover.
"""

import argparse
import shutil
import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "bench")]

from chaos.planes import with_a_clock_of_its_own  # noqa: E402 - as above
from chaos.rows import QUICK, ROWS  # noqa: E402 - as above
from chaos.run import run  # noqa: E402 - as above
from chaos.stage import CLIENTS, ENVOY, NATIVE, PODS, TRIMTAB, WORK_MS  # noqa: E402 - as above
from harness.wall_clock import LIBRARIES  # noqa: E402 - as above
from machine import publish  # noqa: E402 - found on the path that was made just now

OTHERS = (NATIVE, ENVOY)
NOT_HERE = """\
## What is not here
More load: pods and clients are Python on two cores, which the clients share; one client at 1,000 requests/s
while a server is killed is in [one kill](one-kill.md). Clients that are stopped themselves send nothing to lose
(`tests/client/test_stopped_client.py`: a stopped client ejects nobody). Certificates of pods that are
replaced or expire are tests, too (`tests/client/test_tls_files.py`). A process that the kernel kills for its
memory is the row `plane-kill`. Delay and reordering of packets: this kernel has no netem.
"""


def cell(rounds):
    """How many failed of how many, and when the last one began; the worst round's."""
    sent, failed = sum(r[0] for r in rounds), sum(len(r[1]) for r in rounds)
    if not failed:
        return f"0 of {sent}"
    last = max(at for r in rounds for at, _ in r[1])
    return f"{failed} of {sent} ({100 * failed / sent:.2f} %), last at {max(0.0, last):.1f} s"


def table(found, clients):
    lines = [f"| fault | {' | '.join(clients)} |", "|---" * (1 + len(clients)) + "|"]
    for row in ROWS:
        if row.name in found:
            cells = [cell(found[row.name][client]) for client in clients]
            lines.append(f"| `{row.name}`: {row.fault} | {' | '.join(cells)} |")
    return "\n".join(lines)


def lost_rows(found, clients):
    """Where native gRPC or Envoy lost fewer requests than trimtab without retries."""
    lost = []
    if TRIMTAB in clients:
        for name, by_client in found.items():
            share = {
                c: sum(len(r[1]) for r in rounds) / sum(r[0] for r in rounds)
                for c, rounds in by_client.items()
            }
            better = [c for c in clients if c in OTHERS and share[c] < share[TRIMTAB]]
            if better:
                lost.append(f"`{name}` ({' and '.join(better)} lost fewer)")
    return ", ".join(lost) or "none"


def main():
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the faults, and end")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="these faults only")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} only")
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=CLIENTS)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each fault (2)")
    parser.add_argument("--rate", type=float, default=100, help="requests/s of each client (100)")
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    given = parser.parse_args()
    if given.list:
        for row in ROWS:
            print(f"{row.name:14} {row.fault}")
        return
    names = given.rows or (QUICK if given.quick else [row.name for row in ROWS])
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; --list names them")
    rows = [row for row in ROWS if row.name in names]
    if any(row.netns for row in rows) and shutil.which("iptables") is None:
        parser.error("iptables is not installed (Debian: apt-get install iptables)")
    if any(row.plane is with_a_clock_of_its_own for row in rows) and not LIBRARIES:
        parser.error("libfaketime is not installed (Debian: apt-get install libfaketime)")
    found = defaultdict(lambda: defaultdict(list))
    reasons = Counter()
    total = len(rows) * given.rounds
    for number in range(total):
        row = rows[number % len(rows)]
        for client, result in run(row, given.clients, given.rate).items():
            found[row.name][client].append(result)
            for _, why in result[1]:
                reasons[row.name, client, why[:110]] += 1
        last = {c: [r[-1]] for c, r in found[row.name].items()}
        told = "; ".join(f"{c} {cell(last[c])}" for c in given.clients)
        print(f"[{number + 1}/{total}] {row.name}: {told}", file=sys.stderr, flush=True)
    for (name, client, why), n in sorted(reasons.items()):
        print(f"  {name}, {client}: {n} x {why}", file=sys.stderr)
    sizes = [r[0] for by in found.values() for rounds in by.values() for r in rounds]
    publish(
        "Faults, side by side",
        f"{__doc__.partition(chr(10))[2].strip()}\n\n{PODS} pods, requests of {WORK_MS} ms, "
        f"{given.rate:g} requests/s through each client at the same time, {given.rounds} rounds of each "
        f"fault, {statistics.median(sizes):.0f} requests per client and round (median).\n\n"
        f"{table(found, given.clients)}\n\nRows that trimtab loses: {lost_rows(found, given.clients)}.\n\n{NOT_HERE}",
        given.write,
        "grpcio",
    )


if __name__ == "__main__":
    main()
