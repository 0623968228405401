import contextlib
import gc
import threading
from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from machine_settings import machine_settings
from trimtab import policies
from trimtab.balancer import Balancer
from trimtab.errors import ConfigError, NoEndpoints
from trimtab.model import Endpoint, Health, Locality, PolicyConfig, Snapshot, ZoneSplit
from trimtab.policies import Outcome
from trimtab.policies.round_robin import RoundRobin


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


class Refuses(RoundRobin):
    """A user's own, with a bug."""

    wrong = False

    def update(self, nodes, now):
        if self.wrong:
            raise LookupError
        super().update(nodes, now)


def test_what_changed_while_the_strategy_raised_is_told_once_it_no_longer_does(monkeypatch):
    strategy = Refuses(Random(1))
    monkeypatch.setitem(policies._registry, "refuses", lambda _params, _random: strategy)
    b = balancer(endpoint(1), endpoint(2), policy=PolicyConfig("refuses"))
    first = b.nodes["10.0.0.1", 80]
    strategy.wrong = True
    for there in (3, 4):
        with pytest.raises(LookupError):
            b.update(snapshot(endpoint(2), endpoint(there)))
    fourth = b.nodes["10.0.0.4", 80]
    strategy.wrong = False
    change = b.update(snapshot(endpoint(2), endpoint(4)))
    assert change.added == (fourth,)
    assert change.removed[0] is first
    assert [node.endpoint.address for node in change.removed] == ["10.0.0.1", "10.0.0.3"]
    assert b.update(snapshot(endpoint(2), endpoint(4))) == type(change)((), ())


def test_a_connection_that_the_strategy_raised_at_is_told_it_again_with_the_first_request_after_a_beat(
    monkeypatch,
):
    strategy = Refuses(Random(1))
    monkeypatch.setitem(policies._registry, "refuses", lambda _params, _random: strategy)
    b = balancer(endpoint(1), endpoint(2), policy=PolicyConfig("refuses"))
    strategy.wrong = True
    b.set_connected(b.nodes["10.0.0.1", 80], connected=True)
    with pytest.raises(LookupError):
        b.pick()
    assert taken(b) == {"10.0.0.1", "10.0.0.2"}  # what it knows; not every request fails
    b.beat()
    with pytest.raises(LookupError):
        b.pick()
    strategy.wrong = False
    b.beat()
    assert taken(b) == {"10.0.0.1"}


class Unlearning(RoundRobin):
    """A user's own that raises whenever it is told of an end."""

    def done(self, node, outcome, latency, now, report):
        raise LookupError(node.endpoint.address)


@pytest.fixture
def unlearning(monkeypatch):
    monkeypatch.setitem(
        policies._registry, "unlearning", lambda _params, random: Unlearning(random)
    )
    return PolicyConfig("unlearning")


def test_an_end_that_the_strategy_raised_at_is_over_and_told_with_the_next_beat(unlearning):
    told = []
    b = balancer(endpoint(1), policy=unlearning, raised=lambda *what: told.append(what))
    first, second, third = b.pick(), b.pick(), b.pick()
    first.finish(Outcome.SUCCESS)
    second.finish(Outcome.FAILURE)
    b.ends.append((third, 0.0, None))  # as a door does that leaves the counting to the next choice
    assert b.pick().node.in_flight == 1
    assert not told
    b.beat()
    b.beat()
    ((policy, error, times),) = told
    assert (policy, str(error), times) == ("unlearning", "10.0.0.1", 3)


@pytest.mark.parametrize("zone", ["", "a"])
def test_judges_learn_of_failures_that_the_strategy_raised_at(unlearning, zone):
    b = balancer(
        *(endpoint(i, locality=Locality(zone="a")) for i in (1, 2, 3)),
        policy=unlearning, zone=zone, raised=lambda *_: None,
    )  # fmt: skip
    for _ in range(600):
        pick = b.pick()
        failed = pick.node.endpoint.address == "10.0.0.1"
        pick.finish(Outcome.FAILURE if failed else Outcome.SUCCESS)
    assert b.ejections == 1


@pytest.mark.parametrize("raised", [None, lambda *_: None])
def test_an_endpoint_that_has_left_is_let_go_of_though_the_strategy_raised_at_its_last_end(
    unlearning, raised
):
    b = balancer(endpoint(1), policy=unlearning, raised=raised)
    pick = b.pick()
    b.update(snapshot(endpoint(2)))
    with contextlib.suppress(LookupError):
        pick.finish(Outcome.SUCCESS)
    assert not any(isinstance(each, set) for each in gc.get_referrers(pick.node))


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


def test_a_change_of_policy_keeps_what_is_in_flight_and_what_the_judges_know():
    first, second = (PolicyConfig.of(name, error_bias=0) for name in ("p2c", "round_robin"))
    endpoints = [endpoint(i) for i in range(4)]
    b = balancer()
    b.update(snapshot(*endpoints, policy=first))
    bad = b.nodes["10.0.0.0", 80]
    while bad not in b._stack.ejection.ejected:
        pick = b.pick()
        pick.finish(Outcome.FAILURE if pick.node is bad else Outcome.SUCCESS)
    held = b.pick()
    before = dict(b.nodes)
    b.update(snapshot(*endpoints, policy=second))
    assert dict(b.nodes) == before
    assert b.in_flight == held.node.in_flight == 1
    assert taken(b) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    held.finish(Outcome.SUCCESS)
    assert b.in_flight == 0


def test_an_unknown_policy_in_a_snapshot_leaves_the_last_one_at_work():
    b = balancer(endpoint(1))
    b.update(snapshot(endpoint(1), policy=PolicyConfig("from_the_future")))
    assert b.pick().node.endpoint.address == "10.0.0.1"
    assert "from_the_future" in b.policy_error
    b.update(snapshot(endpoint(1)))
    assert b.policy_error == ""


def test_a_service_that_switches_balancing_off_goes_before_the_callers_policy_and_back():
    off = PolicyConfig.of("round_robin", disable=True)
    b = balancer(policy=PolicyConfig("token"))
    fleet = [endpoint(i) for i in range(10)]
    b.update(snapshot(*fleet, policy=off))
    assert type(b._stack.outer) is RoundRobin
    for _ in range(200):  # nobody is ejected, whatever happens
        b.pick().finish(Outcome.FAILURE)
    assert {node.picks for node in b.nodes.values()} == {20}
    b.update(snapshot(*fleet))
    assert b._stack.ejection is not None
    assert type(b._stack.outer) is not RoundRobin


def test_a_fixed_policy_that_is_unknown_is_refused_at_once():
    with pytest.raises(ConfigError, match="nope"):
        balancer(policy=PolicyConfig("nope"))


def zoned(*zones, told=None):
    fleet = tuple(endpoint(i, locality=Locality("r", z)) for i, z in enumerate(zones, 1))
    return Snapshot("orders.shop:80", fleet, zones=told)


def shares(b, n=2000):
    for _ in range(n):
        b.pick().finish(Outcome.SUCCESS)
    return {zone: picks / n for zone, picks in b.zone_picks.items()}


def test_the_control_plane_says_where_a_client_is_and_where_its_requests_go():
    b = balancer()
    b.update(zoned("a", "b", told=ZoneSplit("a", (("a", 0.8), ("b", 0.2)))))
    assert b.zone == "a"
    assert shares(b) == pytest.approx({"a": 0.8, "b": 0.2}, abs=0.05)


def test_the_caller_knows_best_where_it_is():
    b = balancer(zone="b")
    b.update(zoned("a", "b", told=ZoneSplit("a")))
    assert b.zone == "b"


def test_a_client_that_moves_by_the_control_plane_s_word_begins_anew():
    b = balancer()
    b.update(zoned("a", "b", told=ZoneSplit("a", (("a", 1.0),))))
    held = b.pick()
    b.update(zoned("a", "b"))
    assert b.zone == "a"
    b.update(zoned("a", "b", told=ZoneSplit("b", (("b", 1.0),))))
    assert b.zone == "b"
    held.finish(Outcome.SUCCESS)
    assert b.in_flight == 0
    b.pick().finish(Outcome.SUCCESS)


def test_what_a_client_in_another_zone_learnt_of_an_endpoint_is_not_held_against_it():
    b = balancer()
    b.update(zoned("a", "b"))
    b._stack.shares.set(b.nodes["10.0.0.1", 80], "errors", 0.1)
    b.update(zoned("a", "b", told=ZoneSplit("a")))
    assert b.nodes["10.0.0.1", 80].share == 1.0


def test_a_pick_that_a_finaliser_drops_ends_with_the_next_look():
    b = balancer(endpoint(1))
    pick = b.pick()
    pick.drop()
    assert b.in_flight == 1
    b.take_back()
    assert b.in_flight == 0
    pick.finish(Outcome.SUCCESS)
    assert b.in_flight == 0


def test_requests_are_counted_by_zone_beyond_the_life_of_their_endpoints():
    b = balancer(zone="a", policy=PolicyConfig.of("round_robin", judges=False))
    b.update(zoned("a", "b"))
    assert shares(b, 10) == {"a": 0.5, "b": 0.5}
    b.update(zoned("a"))
    shares(b, 10)
    assert b.zone_picks == {"a": 15, "b": 5}


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
TestAnyOrder.settings = machine_settings(150, 30)


class Awake:
    """A balancer of three endpoints whose clock can be set."""

    def __init__(self):
        self.now = 100.0
        self.balancer = Balancer("orders.shop:80", clock=lambda: self.now, random=Random(1))
        self.balancer.update(
            Snapshot("orders.shop:80", tuple(Endpoint(f"10.0.0.{i}", 80) for i in range(3)))
        )

    def ejections_after(self, pause, beats=True):
        if beats:
            self.balancer.beat()
        picks = [self.balancer.pick() for _ in range(60)]
        self.now += pause
        for pick in picks[:30]:  # some end before the door notices that it was stopped
            pick.finish(Outcome.TIMEOUT)
        if beats:
            self.balancer.beat()
        for pick in picks[30:]:
            pick.finish(Outcome.FAILURE)
        return self.balancer._stack.ejection.ejections


def test_what_ends_badly_after_a_pause_of_our_own_says_nothing_of_the_endpoints():
    assert Awake().ejections_after(300.0) == 0
    assert Awake().ejections_after(1.0) > 0
    assert Awake().ejections_after(300.0, beats=False) > 0  # nobody says that we were stopped


def test_after_a_pause_failures_of_new_requests_count():
    awake = Awake()
    assert awake.ejections_after(300.0) == 0
    awake.now += 0.1
    assert awake.ejections_after(0.1) > 0


@pytest.mark.parametrize("more", [{}, {"stalled": lambda _node: None}], ids=["plain", "judged"])
@pytest.mark.parametrize("picked", [None, "10.0.0.1:80"])
def test_a_policy_that_picks_what_is_no_node_is_named_and_told_what_it_must_return(
    picked, more, monkeypatch
):
    class Careless:
        def update(self, nodes, now):
            """As it should be."""

        def pick(self, now, key=None):
            return picked

        def done(self, node, outcome, latency, now, report):
            """As it should be."""

    monkeypatch.setitem(policies._registry, "careless", lambda _params, _random: Careless())
    b = balancer(endpoint(1), policy=PolicyConfig("careless"), **more)
    with pytest.raises(
        TypeError, match=rf"policy 'careless': pick returned {picked!r}; it must return one of"
    ):
        b.pick()
