"""The manifests that the demo writes, read by the real source."""

import asyncio

from trimtab.demo.rollout import PodState, Rollout
from trimtab.discovery.manifests import Manifests
from trimtab.model import Health, Synced, Updated


async def read(directory):
    """The clusters and problems that a control plane finds there."""
    problems, found = [], {}
    events = Manifests(directory, problems.append).events()
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, Synced):
                break
            if isinstance(event, Updated):
                found[event.snapshot.cluster] = event.snapshot
    await events.aclose()
    return found, problems


async def test_the_control_plane_reads_what_the_demo_writes(tmp_path):
    rollout = Rollout(tmp_path)
    rollout.write({f"orders-{n}": (20000 + n, PodState.READY) for n in range(1, 5)})
    found, problems = await read(tmp_path)
    assert problems == []
    assert [e.target for e in found["orders.shop:8080"].usable()] == [
        f"127.0.0.1:{20000 + n}" for n in range(1, 5)
    ]


async def test_a_starting_pod_is_listed_but_gets_nothing_yet(tmp_path):
    rollout = Rollout(tmp_path)
    rollout.write({"orders-1": (20001, PodState.READY), "orders-2": (20002, PodState.STARTING)})
    found, _ = await read(tmp_path)
    snapshot = found["orders.shop:8080"]
    assert [e.port for e in snapshot.usable()] == [20001]
    assert snapshot.counts()[Health.UNHEALTHY] == 1


async def test_before_the_first_pod_there_is_a_service_without_endpoints(tmp_path):
    Rollout(tmp_path).write({})
    found, problems = await read(tmp_path)
    assert problems == []
    assert found["orders.shop:8080"].endpoints == ()


def test_a_reader_never_sees_half_a_file(tmp_path):
    rollout = Rollout(tmp_path)
    rollout.write({"orders-1": (20001, PodState.READY)})
    before = (tmp_path / "orders.json").stat().st_ino
    rollout.write({"orders-1": (20001, PodState.READY), "orders-2": (20002, PodState.READY)})
    assert (tmp_path / "orders.json").stat().st_ino != before
    assert [file.name for file in tmp_path.iterdir()] == ["orders.json"]
