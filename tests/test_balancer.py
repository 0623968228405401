import threading
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trimtab.balancer import Balancer
from trimtab.errors import ConfigError, NoEndpoints
from trimtab.model import Endpoint, Health, PolicyConfig, Snapshot
from trimtab.policies import Outcome


def endpoint(i, **more):
    return Endpoint(f"10.0.0.{i}", 80, **more)


def snapshot(*endpoints, policy=None):
    return Snapshot("orders.shop:80", endpoints, policy=policy)


def balancer(*endpoints, **more):
    made = Balancer("orders.shop:80", clock=lambda: 0.0, random=Random(1), **more)
    if endpoints:
        made.update(snapshot(*endpoints))
    return made


def taken(b):
    found = set()
    for _ in range(50):
        pick = b.pick()
        found.add(pick.node.endpoint.address)
        pick.finish(Outcome.SUCCESS)
    return found


def test_a_request_is_counted_on_its_endpoint_until_it_finishes():
    b = balancer(endpoint(1))
    pick = b.pick()
    assert pick.node.in_flight == 1
    pick.finish(Outcome.SUCCESS)
    assert pick.node.in_flight == 0


def test_finishing_twice_counts_once():
    b = balancer(endpoint(1))
    first, second = b.pick(), b.pick()
    first.finish(Outcome.CANCELLED)
    first.finish(Outcome.FAILURE)
    assert second.node.in_flight == 1


def test_an_endpoint_that_stays_keeps_its_node_and_its_statistics():
    b = balancer(endpoint(1), endpoint(2))
    before = dict(b.nodes)
    pick = b.pick()
    change = b.update(snapshot(endpoint(1), endpoint(2, weight=5), endpoint(3)))
    assert [n.endpoint.address for n in change.added] == ["10.0.0.3"]
    assert change.removed == ()
    assert all(b.nodes[key] is node for key, node in before.items())
    assert b.nodes["10.0.0.2", 80].endpoint.weight == 5
    assert pick.node.in_flight == 1


def test_a_pod_that_returns_at_the_same_address_starts_clean():
    b = balancer(endpoint(1))
    old = b.pick()
    b.update(snapshot())
    b.update(snapshot(endpoint(1)))
    old.finish(Outcome.SUCCESS)
    assert b.nodes["10.0.0.1", 80].in_flight == 0
    assert b.nodes["10.0.0.1", 80] is not old.node
    assert b.in_flight == 0


def test_another_pod_at_the_same_address_in_one_step_starts_clean():
    b = balancer(endpoint(1, uid="a"))
    old = b.pick()
    change = b.update(snapshot(endpoint(1, uid="b")))
    assert change.removed == (old.node,)
    assert b.pick().node is change.added[0]
    old.finish(Outcome.SUCCESS)
    assert b.in_flight == 1


def test_a_draining_endpoint_gets_nothing_new_and_keeps_what_it_has():
    b = balancer(endpoint(1), endpoint(2))
    node = b.nodes["10.0.0.1", 80]
    node.in_flight = 1
    change = b.update(snapshot(endpoint(1, health=Health.DRAINING), endpoint(2)))
    assert change.removed == ()
    assert taken(b) == {"10.0.0.2"}
    assert node.in_flight == 1


def test_when_all_are_draining_they_still_serve():
    b = balancer(endpoint(1, health=Health.DRAINING), endpoint(2, health=Health.UNHEALTHY))
    assert b.pick().node.endpoint.address == "10.0.0.1"


def test_a_later_priority_serves_only_while_no_earlier_one_can():
    b = balancer(endpoint(1), endpoint(2, priority=1))
    assert taken(b) == {"10.0.0.1"}
    b.update(snapshot(endpoint(1, health=Health.UNHEALTHY), endpoint(2, priority=1)))
    assert b.pick().node.endpoint.address == "10.0.0.2"


def test_an_endpoint_gets_requests_only_once_it_is_connected():
    b = balancer(endpoint(1), endpoint(2))
    b.set_connected(b.nodes["10.0.0.1", 80], True)
    assert taken(b) == {"10.0.0.1"}
    b.set_connected(b.nodes["10.0.0.2", 80], True)
    assert taken(b) == {"10.0.0.1", "10.0.0.2"}
    b.set_connected(b.nodes["10.0.0.1", 80], False)
    assert taken(b) == {"10.0.0.2"}


def test_with_none_connected_every_usable_endpoint_may_be_tried():
    b = balancer(endpoint(1), endpoint(2))
    assert taken(b) == {"10.0.0.1", "10.0.0.2"}
    assert not b.connected


@pytest.mark.parametrize(
    ("endpoints", "reason"),
    [
        (None, "no endpoints received yet"),
        ((), "the service has no endpoints"),
        ((endpoint(1, health=Health.UNHEALTHY),), r"none of 1 endpoints is ready \(1 unhealthy\)"),
    ],
)
def test_a_pick_from_nothing_says_why(endpoints, reason):
    b = balancer()
    if endpoints is not None:
        b.update(snapshot(*endpoints))
    assert not b.pickable
    with pytest.raises(NoEndpoints, match=f"orders.shop:80: {reason}"):
        b.pick()


def test_the_snapshot_names_the_policy_unless_the_caller_fixed_one():
    rr = PolicyConfig("round_robin")
    follows, fixed = balancer(), balancer(policy=PolicyConfig("random"))
    for b in (follows, fixed):
        b.update(snapshot(endpoint(1), endpoint(2), endpoint(3), policy=rr))
    turn = [follows.pick().node.endpoint.address for _ in range(6)]
    assert turn[:3] == turn[3:]
    assert len(set(turn)) == 3
    runs = "".join(fixed.pick().node.endpoint.address[-1] for _ in range(60))
    assert runs[:30] != runs[30:]


def test_an_unknown_policy_in_a_snapshot_leaves_the_last_one_at_work():
    b = balancer(endpoint(1))
    b.update(snapshot(endpoint(1), policy=PolicyConfig("from_the_future")))
    assert b.pick().node.endpoint.address == "10.0.0.1"
    assert "from_the_future" in b.policy_error
    b.update(snapshot(endpoint(1)))
    assert b.policy_error == ""


def test_a_fixed_policy_that_is_unknown_is_refused_at_once():
    with pytest.raises(ConfigError, match="nope"):
        balancer(policy=PolicyConfig("nope"))


def test_its_repr_tells_the_state():
    b = balancer(endpoint(1), endpoint(2, health=Health.DRAINING))
    b.pick()
    assert repr(b) == "<Balancer orders.shop:80: 1 ready, 1 draining, 0 unhealthy | 1 in flight>"


def test_threads_leave_nothing_in_flight():
    b = Balancer("x.y:1", clock=lambda: 0.0, random=Random(1), lock=threading.RLock())
    b.update(snapshot(*(endpoint(i) for i in range(1, 9))))

    def work():
        for _ in range(3_000):
            pick = b.pick()
            pick.finish(Outcome.SUCCESS)
            pick.finish(Outcome.SUCCESS)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b.in_flight == 0
    assert sum(n.picks for n in b.nodes.values()) == 12_000


class AnyOrder(RuleBasedStateMachine):
    """Updates, picks, ends and connection changes in any order, against plain bookkeeping."""

    def __init__(self):
        super().__init__()
        self.b = balancer()
        self.open = []
        self.known = {}

    @rule(
        states=st.dictionaries(
            st.integers(1, 4), st.tuples(st.sampled_from(Health), st.sampled_from(["", "a", "b"]))
        )
    )
    def update(self, states):
        endpoints = [endpoint(i, health=h, uid=u) for i, (h, u) in states.items()]
        before = dict(self.b.nodes)
        change = self.b.update(snapshot(*endpoints))
        assert {n.endpoint.key for n in change.added} <= set(self.b.nodes)
        for node in change.removed:
            assert before[node.endpoint.key] is node
            assert self.b.nodes.get(node.endpoint.key) is not node
        self.known = {e.key: e for e in endpoints}

    @rule(i=st.integers(1, 4), up=st.booleans())
    def connect(self, i, up):
        node = self.b.nodes.get((f"10.0.0.{i}", 80))
        if node is not None:
            self.b.set_connected(node, up)

    @precondition(lambda self: self.b.pickable)
    @rule()
    def pick(self):
        pick = self.b.pick()
        usable = {e.key for e in self.b.snapshot.usable()}
        assert pick.node.endpoint.key in usable
        connected = {k for k in usable if self.b.nodes[k].connected}
        assert not connected or pick.node.endpoint.key in connected
        self.open.append(pick)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), again=st.booleans())
    def finish(self, data, outcome, again):
        pick = data.draw(st.sampled_from(self.open))
        pick.finish(outcome)
        if again:
            pick.finish(outcome)
        self.open.remove(pick)

    @invariant()
    def every_open_pick_is_counted_on_its_own_node(self):
        assert self.b.in_flight == len(self.open)
        for node in self.b.nodes.values():
            assert node.in_flight == sum(p.node is node for p in self.open)

    @invariant()
    def it_can_pick_whenever_an_endpoint_is_usable(self):
        usable = self.b.snapshot.usable() if self.b.snapshot else ()
        assert self.b.pickable is bool(usable)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
