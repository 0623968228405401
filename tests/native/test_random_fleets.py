"""Random fleets and configurations, to real Envoy and native gRPC: nothing is ever rejected.

``make fleets FLEETS=100000`` takes more of them.
"""

import os

import pytest

from harness.feeding import feeding

pytestmark = pytest.mark.processes

FLEETS = int(os.environ.get("FLEETS", "2000"))
BATCH = 250


@pytest.mark.timeout(60 + FLEETS // 10)
async def test_no_client_rejects_anything_of_random_fleets(tmp_path):
    async with feeding(tmp_path) as clients:
        for first in range(0, FLEETS, BATCH):
            await clients.feed(range(first, min(first + BATCH, FLEETS)))
        accepted = clients.accepted()
        for kind in ("CDS", "EDS"):
            for client in ("envoy", "grpc"):
                assert accepted.get((kind, client)), f"{kind} never reached {client}"
