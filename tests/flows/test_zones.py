"""Zones from the manifests to the request: ``trimtab serve``, real servers, and a client in zone a."""

import asyncio
import json
from collections import Counter

import pytest

import trimtab.aio
from harness.echo_process import METHOD, SERVICE
from harness.manifests import Pod
from harness.waiting import Deadline

pytestmark = pytest.mark.processes

TARGET = "xds:///orders.shop:grpc"
WORK = b"4"  # milliseconds


class Load:
    """A client in a zone that sends without pause, eight requests at a time."""

    def __init__(self, bootstrap, zone: str | None = "a", mode: str | None = "prefer"):
        self._channel = trimtab.aio.insecure_channel(
            TARGET,
            bootstrap=bootstrap,
            locality=zone,
            policy=trimtab.PolicyConfig.of("token", zone=mode) if mode else None,
        )
        self._who = self._channel.unary_unary(f"/{SERVICE}/{METHOD}")
        self.failures = []

    async def seconds(self, seconds):
        """Send for so long; the part of each zone: a server's name begins with its zone."""
        seen, deadline = Counter(), Deadline(seconds)

        async def send():
            while not deadline.passed:
                try:
                    name = await self._who(WORK, timeout=5, wait_for_ready=True)
                except Exception as error:  # noqa: BLE001 - a test tells below what it was
                    self.failures.append(error)
                else:
                    seen[name.decode()[0]] += 1

        await asyncio.gather(*(send() for _ in range(8)))
        return {zone: n / seen.total() for zone, n in seen.items()}

    @property
    def zone(self):
        """Where the client takes itself to be."""
        return self._channel.trimtab.zone

    @property
    def picks(self):
        """Its requests by zone."""
        return self._channel.trimtab.zone_picks

    async def until(self, what, within=20):
        """Send until the parts of a second are so."""
        deadline = Deadline(within)
        while not what(seen := await self.seconds(1)):
            assert not deadline.passed, seen
        return seen

    async def close(self):
        await self._channel.close()


async def test_a_zone_is_preferred_left_while_slow_and_lost_and_returns_gently(
    shop, backends, bootstrap
):
    a, b, c = (backends.open(f"{z}1", f"{z}2", zone=z) for z in "abc")
    shop(*a, *b, *c)
    load = Load(bootstrap)
    try:
        first = await load.seconds(1)
        home = await load.until(lambda seen: seen.get("a", 0) > 0.6)
        assert home["a"] > first["a"]
        # Every pod of zone a goes. Clients hear of it before the pods do.
        await asyncio.to_thread(shop, *b, *c)
        gone = await load.until(lambda seen: "a" not in seen)
        assert set(gone) == {"b", "c"}
        for pod in a:
            await asyncio.to_thread(backends.close, pod.name)
        again = backends.open("a3", "a4", zone="a")
        await asyncio.to_thread(shop, *again, *b, *c)
        back = await load.until(lambda seen: seen.get("a", 0) > 0)
        assert back["a"] < 0.4
        await load.until(lambda seen: seen.get("a", 0) > back["a"])
    finally:
        await load.close()
    assert load.failures == []


async def test_a_slow_zone_keeps_a_few_probes_only(shop, backends, bootstrap):
    (slow,) = (backends.open_slow("a1", by_ms=30, zone="a"),)
    shop(slow, *backends.open("b1", "b2", zone="b"))
    load = Load(bootstrap)
    try:
        seen = await load.until(lambda seen: seen.get("a", 0) < 0.1)
        assert seen["b"] > 0.9
    finally:
        await load.close()
    assert load.failures == []


async def test_a_zone_of_one_pod_is_asked_and_strict_never_leaves_it(shop, backends, bootstrap):
    shop(*backends.open("a1", zone="a"), *backends.open("b1", "b2", "b3", zone="b"))
    load, strict, elsewhere = (
        Load(bootstrap),
        Load(bootstrap, mode="strict"),
        Load(bootstrap, zone="z"),
    )
    try:
        assert (await load.seconds(1))["a"] == pytest.approx(0.25, abs=0.15)
        assert await strict.seconds(1) == {"a": 1.0}
        # In a zone without pods all are the same.
        assert (await elsewhere.seconds(1))["a"] == pytest.approx(0.25, abs=0.15)
        await asyncio.to_thread(shop, *backends.open("b4", zone="b"))
        await strict.until(lambda seen: set(seen) == {"b"})
    finally:
        for each in (load, strict, elsewhere):
            await each.close()
    assert [*load.failures, *strict.failures, *elsewhere.failures] == []


async def test_a_traffic_distribution_prefers_the_zone_and_an_annotation_goes_before_it(
    shop, manifests, backends, bootstrap
):
    pods = [pod for z in "abc" for pod in backends.open(f"{z}1", zone=z)]
    spread = {"trimtab.dev/zone": "off"}
    shop(*pods, distribution="PreferSameZone", annotations=spread)
    load = Load(bootstrap, mode=None)
    try:
        await load.seconds(1)
        assert (await load.seconds(1))["a"] == pytest.approx(1 / 3, abs=0.1)
        manifests.write("orders", "shop", pods, distribution="PreferSameZone")
        await load.until(lambda seen: seen.get("a", 0) > 0.5)
    finally:
        await load.close()
    assert load.failures == []


async def test_uneven_clients_begin_with_the_split_and_a_node_tells_the_zone(
    shop, manifests, backends, control_plane
):
    a, b, c = (backends.open(f"{z}1", f"{z}2", zone=z) for z in "abc")
    # Seven of ten clients run in zone a, on node-a; their ports don't matter.
    where = "a" * 7 + "b" * 2 + "c"
    clients = [Pod(f"shopper-{i}", 9000 + i, zone=z, node=f"node-{z}") for i, z in enumerate(where)]
    manifests.write("shopper", "shop", clients)
    shop(*a, *b, *c)
    printed = control_plane.bootstrap(
        "grpc", node_id="zones", namespace="shop", service="shopper", node_name="node-a"
    )
    load = Load(json.loads(printed), zone=None)
    try:
        # A third of the servers for 70 % of the clients; c has more to spare than b.
        first = await load.seconds(1)
        assert load.zone == "a"
        assert first["a"] == pytest.approx(0.333 / 0.7, abs=0.1)
        assert first["c"] > first["b"] > 0
        assert await load.until(lambda seen: seen["a"] > first["a"] + 0.1)
        assert sum(load.picks.values()) == sum(load.picks.get(z, 0) for z in "abc") > 0
    finally:
        await load.close()
    assert load.failures == []
