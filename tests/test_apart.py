"""Where further attempts go, under every policy."""

from random import Random

import pytest

from trimtab import policies
from trimtab.balancer import Balancer
from trimtab.model import Endpoint, Locality, PolicyConfig, Snapshot
from trimtab.policies import Outcome, names
from trimtab.policies.stack import WITHOUT_ZONES
from trimtab.testing import FakeClock

every_policy = pytest.mark.parametrize("policy", names())
those_with_zones = pytest.mark.parametrize("policy", sorted(set(names()) - WITHOUT_ZONES))
SEVEN = frozenset({("shard", "7")})


def endpoint(i, zone, **more):
    return Endpoint(f"10.0.0.{i}", 80, locality=Locality("r", zone), **more)


def balancer(policy, endpoints, *, clock=None, strict=False):
    made = Balancer(
        "orders.shop:80",
        clock=clock or FakeClock(),
        random=Random(1),
        zone="a",
        policy=PolicyConfig(policy, (("zone", "strict"),) if strict else ()),
    )
    made.update(Snapshot("orders.shop:80", tuple(endpoints)))
    return made


def attempts(b, n, labels=None, key="k"):
    """The nodes of one request's attempts, which all fail to end."""
    been, picks = [], []
    for _ in range(n):
        picks.append(b.pick_apart(been, key, labels))
        been.append(picks[-1].node)
    for pick in picks:
        pick.finish(Outcome.CANCELLED)
    return been


def zones(nodes):
    return [node.endpoint.locality.zone for node in nodes]


def settled(b, clock):
    """A balancer whose requests have come home: nearly all of them stay in the own zone."""
    for _ in range(60):
        for _ in range(10):
            b.pick().finish(Outcome.SUCCESS)
            clock.advance(0.1)


@every_policy
def test_every_attempt_goes_to_another_zone_while_there_is_one_and_then_to_another_endpoint(policy):
    clock = FakeClock()
    b = balancer(policy, [endpoint(i, "abc"[i % 3]) for i in range(6)], clock=clock)
    settled(b, clock)
    for _ in range(50):
        been = attempts(b, 6)
        assert set(zones(been[:3])) == {"a", "b", "c"}
        assert len(set(been)) == 6
    assert b.in_flight == 0


@every_policy
def test_with_one_zone_every_attempt_goes_to_another_endpoint(policy):
    b = balancer(policy, [endpoint(i, "") for i in range(4)])
    for _ in range(50):
        assert len(set(attempts(b, 4))) == 4


@every_policy
def test_the_only_endpoint_gets_the_further_attempt_too(policy):
    b = balancer(policy, [endpoint(1, "a")])
    assert len(set(attempts(b, 2))) == 1


@those_with_zones
def test_a_strict_zone_is_not_left_for_a_further_attempt(policy):
    b = balancer(policy, [endpoint(i, "aab"[i % 3]) for i in range(6)], strict=True)
    for _ in range(30):
        been = attempts(b, 5)
        assert set(zones(been)) == {"a"}
        assert len(set(been)) == 4


@every_policy
def test_an_ejected_endpoint_of_another_zone_gets_no_further_attempt(policy):
    clock = FakeClock()
    b = balancer(policy, [endpoint(1, "a"), endpoint(2, "a"), endpoint(3, "b")], clock=clock)
    for node in b.nodes.values():
        b.set_connected(node, connected=True)
    bad = b.nodes["10.0.0.3", 80]
    others = [node for node in b.nodes.values() if node is not bad]
    while b.state_of(bad) != "ejected":
        pick = b.pick_apart(others)
        assert pick.node is bad
        pick.finish(Outcome.FAILURE)
        clock.advance(0.1)
    for _ in range(30):
        assert bad not in attempts(b, 2)


@every_policy
def test_labels_hold_for_further_attempts(policy):
    b = balancer(
        policy,
        [endpoint(i, "ab"[i % 2], labels=(("shard", "78"[i // 4]),)) for i in range(8)],
    )
    for _ in range(50):
        been = attempts(b, 3, SEVEN)
        assert all(SEVEN.issubset(node.endpoint.labels) for node in been)
        assert set(zones(been[:2])) == {"a", "b"}
        assert len(set(been)) == 3
    assert b.in_flight == 0


@pytest.mark.parametrize("labels", [None, SEVEN])
@every_policy
def test_what_is_picked_on_the_way_to_another_endpoint_makes_nobody_silent(policy, labels):
    clock = FakeClock()
    shard = (("shard", "7"),)
    b = balancer(policy, [endpoint(i, "ab"[i % 2], labels=shard) for i in range(8)], clock=clock)
    for _ in range(400):  # every request is answered
        been = []
        for outcome in (Outcome.OVERLOADED, Outcome.SUCCESS):
            clock.advance(0.015)
            pick = b.pick_apart(been, "k", labels)
            been.append(pick.node)
            clock.advance(0.001)
            pick.finish(outcome)
        assert not [node for node in b.nodes.values() if b.is_silent(node)]


@every_policy
def test_the_zone_of_an_endpoint_that_left_meanwhile_counts(policy):
    gone, *stay = [endpoint(1, "a"), endpoint(2, "a"), endpoint(3, "b")]
    b = balancer(policy, [gone])
    first = b.pick()
    b.update(Snapshot("orders.shop:80", tuple(stay), policy=None))
    for _ in range(30):
        again = b.pick_apart([first.node])
        assert again.node.endpoint.locality.zone == "b"
        again.finish(Outcome.SUCCESS)


class NeedsKey:
    """A strategy that raises for a request without a key."""

    def __init__(self):
        self._nodes = ()

    def update(self, nodes, _now):
        self._nodes = tuple(nodes)

    def pick(self, _now, key=None):
        return self._nodes[len(key) % len(self._nodes)]

    def done(self, *_told):
        """Nothing is learnt."""


def test_a_strategy_that_raises_on_the_way_to_another_endpoint_leaves_nothing_in_flight(
    monkeypatch,
):
    monkeypatch.setitem(policies._registry, "needs-key", lambda _params, _random: NeedsKey())
    b = balancer("needs-key", [endpoint(i, "a") for i in range(3)])
    first = b.pick("k")
    first.finish(Outcome.CANCELLED)
    with pytest.raises(TypeError):
        b.pick_apart([first.node], "k")
    assert b.in_flight == 0
