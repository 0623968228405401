"""What one load report (LRS) costs the control plane: CPU time to read it and add it up, by its size.

In one process, without the network: the bytes of a report as a client sends it go through the protocol's
session and into the sums of a control plane that knows the endpoints. gRPC's own work for a message comes
on top; ``push.py --reporting N`` has it all.
"""

from __future__ import annotations

import argparse
import statistics
import time

from machine import publish
from trimtab.control import metrics
from trimtab.control.loads import Loads
from trimtab.model import Synced, Updated
from trimtab.telemetry import Counters
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.catalog import Catalog
from trimtab.xds.load_stats import LoadStatsSession
from xds_receivers import load_report
from xds_servers import Fleet

CLUSTER = "orders.shop:8080"
SIZES = (1, 10, 100, 1_000)
INTERVAL_S = 10.0
CLIENTS, CALLED = 1_000, 100  # the case in docs/operations.md


def seconds(endpoints: int, rounds: int) -> float:
    """CPU time of one report, the median of batches [s]."""
    catalog = Catalog()
    catalog.apply(Updated(Fleet([CLUSTER], endpoints + 1).snapshot(0)))
    catalog.apply(Synced())
    loads = Loads(catalog, Counters(metrics.METRICS), time.monotonic)
    session = LoadStatsSession(INTERVAL_S, request_bytes=1 << 20, node_bytes=1 << 16)
    hello = wire.LoadStatsRequest(node=wire.Node(id="bench", user_agent_name="trimtab"))
    session.receive(hello.SerializeToString())
    report = load_report(CLUSTER, endpoints).SerializeToString()
    batch = max(1, 2_000 // endpoints)
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(batch):
            loads.take(session.client, session.receive(report))
        times.append((time.process_time() - begin) / batch)
    if len(loads.rates()) != endpoints:
        raise SystemExit(f"{len(loads.rates())} of {endpoints} endpoints counted")
    return statistics.median(times)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--write", metavar="FILE")
    args = parser.parse_args()
    rows = ["| endpoints in a report | a report [us] | an endpoint [us] |", "|---|---|---|"]
    found = {size: seconds(size, args.rounds) for size in SIZES}
    rows += [
        f"| {size:,} | {took * 1e6:,.0f} | {took / size * 1e6:.1f} |"
        for size, took in found.items()
    ]
    share = CLIENTS * found[CALLED] / INTERVAL_S
    body = (
        "CPU time of the control plane, median of "
        f"{args.rounds} batches; gRPC's own for a message is not in it.\n\n"
        + "\n".join(rows)
        + "\n\n"
        f"{CLIENTS:,} clients that each report {CALLED} endpoints every {INTERVAL_S:g} s: {share:.1%} of a "
        "core. With more than 300 of them each reports less often, up to every 30 s: "
        f"{share * INTERVAL_S / 30:.1%}."
    )
    publish("What load reports cost the control plane", body, args.write, "trimtab", "protobuf")


if __name__ == "__main__":
    main()
