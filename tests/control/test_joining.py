"""One Service in several clusters."""

from hypothesis import given
from hypothesis import strategies as st

from trimtab.control.joining import joined
from trimtab.model import Endpoint, Locality, PolicyConfig, ServicePort, Snapshot

ORDERS = ServicePort("orders", "shop", 8080, "grpc")


def offer(source, *addresses, policy=None, service=ORDERS):
    endpoints = tuple(Endpoint(a, 50051, Locality(source, "z1")) for a in addresses)
    return source, Snapshot("orders.shop:8080", endpoints, policy, service)


def no_problem(source, problem):
    raise AssertionError(f"{source}: {problem}")


def test_one_source_passes_through_untouched():
    name, snapshot = offer("east", "10.0.0.1")
    assert joined([(name, snapshot)], no_problem) is snapshot


def test_endpoints_of_all_clusters_are_one_service_with_their_regions():
    found = joined([offer("east", "10.0.0.2"), offer("west", "10.0.0.1")], no_problem)
    assert [(e.address, e.locality.region) for e in found.endpoints] == [
        ("10.0.0.1", "west"),
        ("10.0.0.2", "east"),
    ]
    assert found.service == ORDERS


def test_an_address_that_two_clusters_claim_is_the_first_ones_and_a_problem():
    problems = []
    found = joined(
        [offer("east", "10.0.0.1"), offer("west", "10.0.0.1", "10.0.0.2")],
        lambda source, problem: problems.append((source, str(problem))),
    )
    assert [e.locality.region for e in found.endpoints] == ["east", "west"]
    ((source, text),) = problems
    assert source == "west"
    assert "10.0.0.1:50051" in text
    assert "source east" in text


def test_no_address_is_there_twice_be_it_a_second_one():
    problems = []
    dual = Endpoint("fd00::1", 50051, additional_addresses=("10.0.0.1",))
    found = joined(
        [
            offer("east", "10.0.0.1"),
            ("west", Snapshot("orders.shop:8080", (dual,), service=ORDERS)),
            offer("north", "fd00::1"),
        ],
        lambda source, problem: problems.append((source, str(problem))),
    )
    assert [(e.address, e.locality.region) for e in found.endpoints] == [
        ("10.0.0.1", "east"),
        ("fd00::1", "north"),
    ]
    ((source, text),) = problems
    assert source == "west"
    assert "source east" in text


def test_the_first_cluster_that_names_a_policy_decides():
    policy, other = PolicyConfig("p2c"), PolicyConfig("random")
    found = joined(
        [offer("a", "10.0.0.1"), offer("b", policy=policy), offer("c", policy=other)], no_problem
    )
    assert found.policy == policy


@given(st.lists(st.sets(st.integers(1, 9)), min_size=1, max_size=4))
def test_the_union_is_sorted_unique_and_of_the_first_owner(fleets):
    offers = [offer(f"s{i}", *(f"10.0.0.{n}" for n in fleet)) for i, fleet in enumerate(fleets)]
    found = joined(offers, lambda *_: None)
    owners = {}
    for i, fleet in enumerate(fleets):
        for n in fleet:
            owners.setdefault((f"10.0.0.{n}", 50051), f"s{i}")
    assert {e.key: e.locality.region for e in found.endpoints} == owners
    assert list(found.endpoints) == sorted(found.endpoints, key=lambda e: e.key)
