"""Sends damaged requests of every xDS method to a running control plane, as many as one likes.

    python bench/fuzz_requests.py --inputs 1000000

Server and client are in this process, with real gRPC between them. ``make test`` does the same with some
thousand. It ends with the first request that breaks something; nothing may be left of any stream.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from damaged_requests import Fuzzing
from plane import QueueSource, running, updated
from trimtab.control import metrics
from trimtab.control.config import Config
from trimtab.control.limits import Limits
from trimtab.model import Synced

ROUND = 20_000


def megabytes() -> float:
    """The largest that this process has been."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def fuzz(inputs: int, seed: int) -> None:
    """Run it, and say what happened after each round."""
    config = Config(limits=Limits(requests_per_second=1e9, request_burst=1_000_000))
    source = QueueSource(updated("orders", 1, 2), Synced())
    begin = time.perf_counter()
    async with running(source, config=config) as plane:
        await plane.store.synced.wait()
        fuzzing = Fuzzing(plane, Random(seed))
        while fuzzing.sent < inputs:
            await fuzzing.run(min(ROUND, inputs - fuzzing.sent))
            print(f"{fuzzing.sent:,} requests, {megabytes():.0f} MB at most", file=sys.stderr)
        read = int(plane.counters.get(metrics.REQUESTS))
    print(
        f"{fuzzing.sent:,} requests of seed {seed} on {fuzzing.ends.total():,} streams in "
        f"{time.perf_counter() - begin:.0f} s, {read:,} of them read by discovery streams that had not "
        f"ended before; streams by their end: {dict(fuzzing.ends)}; "
        "0 faults, 0 streams left"
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    # What is refused is logged, a line each.
    logging.getLogger("trimtab").setLevel(logging.CRITICAL)
    asyncio.run(fuzz(args.inputs, args.seed))


if __name__ == "__main__":
    main()
