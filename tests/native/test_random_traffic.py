"""Live traffic to random fleets, from clients in zones: every endpoint that should get requests gets some.

Each client has a zone and belongs to a random Service, so each is sent a view of its own. What a zone's
clients keep to themselves leaves a hundredth to the others: native gRPC would drop a locality without a
weight and say nothing.
"""

import asyncio
import os
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from fleets import fleet, front
from harness.backends import Backends
from harness.client import Road
from harness.control_plane import printed_bootstrap
from harness.envoy import Envoy, aggregated
from harness.python_clients import native_client, trimtab_client
from plane import QueueSource, eventually, running
from trimtab.control import metrics
from trimtab.model import Removed, Snapshot, Synced, Updated
from trimtab.xds.zone_views import (
    RESERVE,
    ServiceName,
    Vantage,
    capacity_of,
    mode_of,
    outlook,
    pods_of,
)

pytestmark = pytest.mark.processes

FLEETS = int(os.environ.get("TRAFFIC_FLEETS", "25"))
SERVERS = 8
CALLS = 30  # at once
# Of one that should get at least this part of the requests none is missing but by one chance in 10^13
# (e^-30); hashing to half as many is one in 3,000,000. What gets less is nobody's to wait for.
LEAST = 0.001
ENOUGH = 30
# At least, before one counts as missing: trimtab's policies go by latency as well.
FEWEST = 3_000
FRONT = ServiceName("front", "shop")
ZONES = {"envoy": "a", "native": "b", "trimtab": "c"}
HEAVIEST = 4  # a weight of 2**32-1 beside 1 leaves nothing to be seen


def live(seed, ports):
    """A fleet whose endpoints are servers that answer; none twice, few enough to be told apart."""
    shape = fleet(seed)
    random = Random(seed)
    endpoints = [
        replace(
            endpoint,
            address="127.0.0.1",
            port=port,
            weight=min(endpoint.weight, HEAVIEST),
            additional_addresses=(),
        )
        for endpoint, port in zip(shape.endpoints, random.sample(ports, len(ports)), strict=False)
    ]
    policy = shape.policy
    if policy is not None:
        # A limit would be a reason to fail, a subset one to leave endpoints out.
        kept = tuple(p for p in policy.params if p[0] not in {"max_requests", "subset_size"})
        policy = replace(policy, params=kept)
    service = replace(shape.service, app_protocol="grpc")
    return Snapshot(shape.cluster, tuple(endpoints), policy, service)


def parts(snapshot, clients, zone, reserve):
    """The part of a zone's requests that each usable endpoint should get, by endpoint."""
    capacity = capacity_of(snapshot)
    look = outlook(
        Vantage(zone, FRONT), mode_of(snapshot.policy), clients, capacity, reserve=reserve
    )
    shares = {z: weight / sum(capacity.values()) for z, weight in capacity.items()}
    if look.strict:
        shares = {zone: 1.0}
    elif look.shares is not None:
        shares = look.shares
    return {
        e: shares.get(e.locality.zone, 0.0) * e.weight / capacity[e.locality.zone]
        for e in snapshot.usable()
    }


def groups(found):
    """What is to be seen, each as the ports of which one will do, and the smallest part of them."""
    by_locality = {}
    for endpoint, part in found.items():
        by_locality.setdefault(endpoint.locality, []).append((endpoint.port, part))
    wanted = [({e.port}, part) for e, part in found.items()]
    wanted += [
        ({port for port, _ in members}, sum(part for _, part in members))
        for members in by_locality.values()
    ]
    wanted = [(ports, part) for ports, part in wanted if part >= LEAST]
    return [ports for ports, _ in wanted], min(part for _, part in wanted)


def served(client, road, wanted, part, ports):
    """The ports that answered, until one of each group did, or for long enough; and of how many requests."""
    seen, sent = set(), 0
    while sent < max(ENOUGH / part, FEWEST) and not all(seen & group for group in wanted):
        # Each with a key of its own, for those that hash.
        roads = [
            replace(road, metadata=road.metadata | {"x-user": f"{n}", "a.b_c-1": f"{n}"})
            for n in range(sent, sent + CALLS)
        ]
        sent += CALLS
        for number in [client.begin_call(r) for r in roads]:
            answer = client.end_call(number)
            assert answer.server, answer
            seen.add(ports[int(answer.server)])
    return seen, sent


@pytest.mark.timeout(60 + FLEETS * 15)
async def test_every_endpoint_that_should_gets_requests(tmp_path, started, record_property):
    backends = started(await asyncio.to_thread(Backends))
    pods = await asyncio.to_thread(backends.open, *map(str, range(SERVERS)))
    by_name = {int(pod.name): pod.port for pod in pods}
    source = QueueSource(Synced())
    requests, called, kept_home = Counter(), 0, 0
    async with running(source) as plane:
        address = str(plane.xds_address)
        edge = aggregated("edge", address, "delta", zone=ZONES["envoy"], service=str(FRONT))
        envoy = started(Envoy("edge", edge, tmp_path))
        bootstraps = {
            name: await asyncio.to_thread(
                printed_bootstrap,
                "grpc",
                address,
                (("node_id", name), ("zone", ZONES[name]), ("service", str(FRONT))),
            )
            for name in ("native", "trimtab")
        }
        native = started(native_client(bootstraps["native"]))
        ours = started(trimtab_client(bootstraps["trimtab"]))
        await asyncio.to_thread(envoy.wait_ready)
        for seed in range(FLEETS):
            snapshot = live(seed, list(by_name.values()))
            if not snapshot.usable():
                continue
            called += 1
            source.put(Updated(front(seed)), Updated(snapshot))
            await eventually(lambda s=snapshot: s.cluster in plane.store.catalog)
            await asyncio.to_thread(envoy.wait_cluster, snapshot.cluster)
            roads = {
                "envoy": (native, envoy.road(snapshot.cluster)),
                "native": (native, Road(f"xds:///{snapshot.cluster}")),
                "trimtab": (ours, Road(f"xds:///{snapshot.cluster}")),
            }
            usable = {e.port for e in snapshot.usable()}
            for name, (client, road) in roads.items():
                # trimtab's client spills over by itself, and needs no reserve.
                reserve = 0.0 if name == "trimtab" else RESERVE
                due = parts(snapshot, pods_of(front(seed)), ZONES[name], reserve)
                wanted, part = groups(due)
                seen, sent = await asyncio.to_thread(served, client, road, wanted, part, by_name)
                requests[name] += sent
                kept_home += part <= RESERVE
                what = f"{name}, fleet {seed}: {snapshot} {snapshot.policy} {due}"
                assert all(seen & group for group in wanted), what
                assert seen <= usable, what
            source.put(Removed(snapshot.cluster))
        (nacks,) = (values for m, values in plane.counters if m.name == metrics.NACKS)
        assert not any(nacks.values()), nacks
    record_property("fleets with a usable endpoint", f"{called:,}")
    for name, sent in requests.items():
        record_property(f"requests of {name}", f"{sent:,}, none failed")
    record_property("views in which a zone keeps nearly all to itself", f"{kept_home:,}")
