"""Endpoints chosen by the labels of their pods, from the manifests to the request, by both doors."""

import json
from dataclasses import replace

import grpc
import pytest

import trimtab
import trimtab.aio
from harness.echo_process import METHOD, SERVICE
from harness.waiting import eventually

pytestmark = pytest.mark.processes

TARGET = "xds:///orders.shop:grpc"
ASKS = {"trimtab.dev/endpoint-labels": "shard"}
NOW = b"0"  # milliseconds of work
# The process's subscription may still hold what the last test's control plane said.
WAITS = {"wait_for_ready": True}


@pytest.fixture
def sharded(manifests, backends, orders, control_plane):
    """``orders.shop``: a and b are shard 7, c is shard 8. Returns the client's bootstrap."""
    (c,) = backends.open("c")
    pods = [*orders.values(), c]
    shards = {"a": "7", "b": "7", "c": "8"}
    pods = [replace(pod, labels=(("shard", shards[pod.name]), ("app", "x"))) for pod in pods]
    manifests.write("orders", "shop", pods, annotations=ASKS)
    eventually(
        lambda: len(control_plane.endpoints("orders.shop:8080")["endpoints"]) == 3,
        within=20,
        what="the control plane knows three pods",
    )
    return json.loads(control_plane.bootstrap("grpc", node_id="labels", namespace="shop"))


def all_connected(channel):
    return sum(node.connected for node in channel.trimtab.nodes.values()) == 3


def test_threads_choose_by_label_for_a_channel_and_for_a_call(sharded):
    with (
        trimtab.insecure_channel(TARGET, bootstrap=sharded, policy="p2c") as channel,
        trimtab.insecure_channel(TARGET, bootstrap=sharded, labels={"shard": "8"}) as eighth,
    ):
        who = channel.unary_unary(f"/{SERVICE}/{METHOD}")

        def served(n=40, call=who):
            return {call(NOW, timeout=10, **WAITS).decode() for _ in range(n)}

        served(1)
        eventually(lambda: all_connected(channel), within=20, what="all are connected")
        assert served() == {"a", "b", "c"}
        for shard, names in (("7", {"a", "b"}), ("8", {"c"})):
            with trimtab.request_labels({"shard": shard}):
                assert served() == names
        with trimtab.request_labels({"shard": "9"}), pytest.raises(grpc.RpcError) as refused:
            who(NOW, timeout=10)
        assert "labels shard=9; known values of shard: 7, 8" in refused.value.details()
        assert served(20, eighth.unary_unary(f"/{SERVICE}/{METHOD}")) == {"c"}


async def test_a_loop_chooses_by_label_for_a_channel_and_for_a_call(sharded):
    async with (
        trimtab.aio.insecure_channel(TARGET, bootstrap=sharded, policy="p2c") as channel,
        trimtab.aio.insecure_channel(TARGET, bootstrap=sharded, labels={"shard": "8"}) as eighth,
    ):
        who = channel.unary_unary(f"/{SERVICE}/{METHOD}")

        async def served(n=40, call=who):
            return {(await call(NOW, timeout=10, **WAITS)).decode() for _ in range(n)}

        while not all_connected(channel):
            await served(1)
        assert await served() == {"a", "b", "c"}
        for shard, names in (("7", {"a", "b"}), ("8", {"c"})):
            with trimtab.request_labels({"shard": shard}):
                assert await served() == names
        with trimtab.request_labels({"shard": "9"}), pytest.raises(grpc.RpcError) as refused:
            await who(NOW, timeout=10)
        assert "labels shard=9; known values of shard: 7, 8" in refused.value.details()
        assert await served(20, eighth.unary_unary(f"/{SERVICE}/{METHOD}")) == {"c"}
