"""Which part of a large cluster each client uses."""

from collections import Counter
from random import Random

import pytest

from trimtab.balancer import Balancer
from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Health, Locality, PolicyConfig, Snapshot
from trimtab.policies.subset import Subset


def endpoints(n):
    return tuple(
        sorted(
            (Endpoint(f"10.0.{i // 200}.{i % 200 + 1}", 80) for i in range(n)), key=lambda e: e.key
        )
    )


@pytest.mark.parametrize(
    ("n", "clients", "size"),
    [(100, 30, 20), (7, 3, 2), (1000, 17, 20), (5, 9, 4), (97, 31, 20), (50, 400, 20)],
)
def test_with_an_index_every_endpoint_has_as_many_clients_give_or_take_one(n, clients, size):
    used = Counter()
    for index in range(clients):
        chosen = Subset(size, index, clients).of(endpoints(n), 0)
        assert len(chosen) == min(size, n)
        used.update(e.key for e in chosen)
    counts = [used[e.key] for e in endpoints(n)]
    even = clients * min(size, n) / n
    assert min(counts) > even - 1
    assert max(counts) < even + 1


def test_with_an_index_each_client_has_its_part_of_every_zone():
    # Addresses by zone, as where every zone has a subnet.
    everybody = tuple(
        Endpoint(f"10.{zone}.{i // 200}.{i % 200 + 1:03d}", 80, locality=Locality("r", f"z{zone}"))
        for zone, count in ((1, 150), (2, 100), (3, 50))
        for i in range(count)
    )
    used = Counter()
    for index in range(60):
        chosen = Subset(20, index, 60).of(everybody, 0)
        assert list(chosen) == [e for e in everybody if e in chosen]
        zones = Counter(e.locality.zone for e in chosen)
        assert abs(zones["z1"] - 10) <= 1
        assert abs(zones["z2"] - 20 / 3) <= 1
        assert abs(zones["z3"] - 10 / 3) <= 1
        used.update(e.key for e in chosen)
    assert {used[e.key] for e in everybody} == {4}  # 60 x 20 / 300


def test_with_an_index_one_that_joins_moves_two_of_a_client_s_part():
    everybody = tuple(
        Endpoint(f"10.{zone}.0.{i:03d}", 80, locality=Locality("r", f"z{zone}"))
        for zone in (1, 2, 3)
        for i in range(100)
    )
    joins = Endpoint("10.2.0.0505", 80, locality=Locality("r", "z2"))
    more = tuple(sorted((*everybody, joins), key=lambda e: e.key))
    moved = [
        len(set(Subset(20, i, 60).of(more, 0)) - set(Subset(20, i, 60).of(everybody, 0)))
        for i in range(60)
    ]
    assert max(moved) <= 3
    assert sum(moved) <= 2 * 60


def test_without_an_index_one_that_goes_changes_at_most_one():
    everybody = endpoints(100)
    for client in range(50):
        before = set(Subset(20).of(everybody, client))
        for gone in (everybody[0], everybody[57]):
            after = set(Subset(20).of(tuple(e for e in everybody if e is not gone), client))
            assert len(after - before) == (gone in before)


def test_clients_draw_different_subsets():
    used = Counter(e.key for client in range(100) for e in Subset(20).of(endpoints(100), client))
    assert len(used) == 100
    assert max(used.values()) < 3 * 20


def test_a_small_cluster_is_used_whole():
    assert Subset(20).of(endpoints(20), 1) == endpoints(20)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"subset_size": -1}, "subset_size=-1.0 is not a number from 0"),
        ({"subset_size": 2.5}, "subset_size=2.5 is not a whole number"),
        ({"subset_size": 2, "subset_index": 3, "subset_count": 3}, "subset_index=3 is not below"),
    ],
)
def test_a_bad_parameter_is_named(params, message):
    with pytest.raises(ConfigError, match=message):
        Balancer("x", clock=lambda: 0.0, random=Random(1), policy=PolicyConfig.of("p2c", **params))


def test_a_balancer_keeps_to_its_subset_and_replaces_what_fails():
    policy = PolicyConfig.of("p2c", subset_size=5)
    balancer = Balancer("x", clock=lambda: 0.0, random=Random(1), policy=policy)
    everybody = endpoints(50)
    balancer.update(Snapshot("x", everybody))
    assert len(balancer.nodes) == 5
    first = next(iter(balancer.nodes.values())).endpoint
    sick = tuple(
        Endpoint(e.address, e.port, health=Health.UNHEALTHY) if e is first else e for e in everybody
    )
    balancer.update(Snapshot("x", sick))
    assert len(balancer.nodes) == 5
    assert first.key not in balancer.nodes
