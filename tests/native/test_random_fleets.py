"""Random fleets and configurations, to real Envoy and native gRPC: nothing is ever rejected.

``make fleets FLEETS=100000`` takes more of them.
"""

import os
import sys

import pytest

from fleets import fleet
from harness.feeding import feeding

pytestmark = pytest.mark.processes

FLEETS = int(os.environ.get("FLEETS", "2000"))
BATCH = 250
A_LINE_EVERY = 5000


@pytest.mark.timeout(60 + FLEETS // 10)
async def test_no_client_rejects_anything_of_random_fleets(tmp_path, record_property, capsys):
    async with feeding(tmp_path) as clients:
        sizes = [len(fleet(seed).endpoints) for seed in range(FLEETS)]
        record_property("fleets", f"{FLEETS:,}")
        record_property("endpoints", f"{sum(sizes):,}, at most {max(sizes):,} of one fleet")
        for first in range(0, FLEETS, BATCH):
            await clients.feed(range(first, min(first + BATCH, FLEETS)))
            fed = first + BATCH
            if fed % A_LINE_EVERY == 0:
                with capsys.disabled():
                    sys.stdout.write(f"{fed:,} of {FLEETS:,} fleets, none rejected\n")
                    sys.stdout.flush()
        accepted = clients.accepted()
        for kind in ("CDS", "EDS"):
            for client in ("envoy", "grpc"):
                assert accepted.get((kind, client)), f"{kind} never reached {client}"
                count = f"{accepted[kind, client]:,.0f}"
                record_property(f"{kind} responses accepted by {client}", count)
        record_property("rejected", f"{sum(clients.rejected().values()):.0f}")
