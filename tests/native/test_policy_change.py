"""Another policy by annotation, under way: from the manifests to running clients, by both doors."""

import json

import pytest

import trimtab
import trimtab.aio
from harness.echo_process import METHOD, SERVICE
from harness.waiting import eventually

pytestmark = pytest.mark.processes

TARGET = "xds:///orders.shop:grpc"
NOW = b"0"  # milliseconds of work
# The process's subscription may still hold what the last test's control plane said.
WAITS = {"wait_for_ready": True, "timeout": 10}


@pytest.fixture
def bootstrap(control_plane):
    return json.loads(control_plane.bootstrap("grpc", node_id="policy", namespace="shop"))


def settled(channel, orders):
    nodes = channel.trimtab.nodes
    ports = {port for _, port in nodes}
    return ports == {pod.port for pod in orders.values()} and all(
        node.connected for node in nodes.values()
    )


def ask_for_keys(manifests, orders):
    annotations = {"trimtab.dev/policy": "ring_hash"}
    manifests.write("orders", "shop", list(orders.values()), annotations=annotations)


def test_threads_follow_a_change_of_policy_and_keep_what_they_counted(bootstrap, manifests, orders):
    with trimtab.insecure_channel(TARGET, bootstrap=bootstrap) as channel:
        who = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        who(NOW, **WAITS)
        eventually(lambda: settled(channel, orders), within=20, what="both are connected")
        nodes = dict(channel.trimtab.nodes)
        before = sum(node.picks for node in nodes.values())
        calls = 0

        def served():
            nonlocal calls
            calls += 12
            with trimtab.request_key("the same"):
                return len({who(NOW, **WAITS) for _ in range(12)})

        eventually(lambda: served() == 2, within=20, what="the default minds no keys")
        ask_for_keys(manifests, orders)
        eventually(
            lambda: [served() for _ in range(5)] == [1] * 5, within=20, what="one key, one server"
        )
        assert dict(channel.trimtab.nodes) == nodes
        assert sum(node.picks for node in nodes.values()) == before + calls


async def test_a_loop_follows_a_change_of_policy_and_keeps_what_it_counted(
    bootstrap, manifests, orders
):
    async with trimtab.aio.insecure_channel(TARGET, bootstrap=bootstrap) as channel:
        who = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        while not settled(channel, orders):
            await who(NOW, **WAITS)
        nodes = dict(channel.trimtab.nodes)
        before = sum(node.picks for node in nodes.values())
        calls = 0

        async def served():
            nonlocal calls
            calls += 12
            with trimtab.request_key("the same"):
                return len({await who(NOW, **WAITS) for _ in range(12)})

        while await served() != 2:  # the default minds no keys
            assert calls < 60_000
        ask_for_keys(manifests, orders)
        while [await served() for _ in range(5)] != [1] * 5:
            assert calls < 60_000
        assert dict(channel.trimtab.nodes) == nodes
        assert sum(node.picks for node in nodes.values()) == before + calls
