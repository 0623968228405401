"""A balancer that lives for months: pods come and go, days pass, the process is stopped for hours."""

import gc
import types
from random import Random

import pytest

from trimtab import policies
from trimtab.balancer import Balancer
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, Locality, PolicyConfig, Snapshot
from trimtab.policies import Outcome
from trimtab.testing import FakeClock

SERVICE = "orders.shop:80"
DAY_S = 86_400.0
PODS = 20
# Steps of times that floats have exactly, near 0 and after years: so nothing but our arithmetic can differ.
TICK_S = 1 / 64
FEW, MANY = 200, 800


def reachable(root):
    """How many objects a balancer holds, classes and functions left out."""
    seen, left = set(), [root]
    while left:
        one = left.pop()
        code = (
            type
            | types.ModuleType
            | types.FunctionType
            | types.BuiltinFunctionType
            | types.CodeType
        )
        if id(one) not in seen and not isinstance(one, code):
            seen.add(id(one))
            left.extend(gc.get_referents(one))
    return len(seen)


class Fleet:
    """A balancer whose pods are replaced one by one, with requests that end in every way."""

    def __init__(self, policy, *, begin=0.0, zone="a", labelled=True):
        self.random = Random(1)
        self.clock = FakeClock(begin)
        self.labelled = labelled
        self.balancer = Balancer(
            SERVICE, clock=self.clock, random=Random(2), zone=zone, policy=PolicyConfig(policy)
        )
        self.made = 0
        self.pods = []
        self.held = []
        for _ in range(PODS):
            self.replace()

    def replace(self):
        if len(self.pods) == PODS:
            self.pods.pop(self.random.randrange(PODS))
        self.made += 1
        self.pods.append(
            Endpoint(
                f"10.{self.made >> 16}.{self.made >> 8 & 255}.{self.made & 255}",
                80,
                locality=Locality(zone=self.random.choice("abc")),
                weight=self.random.choice((1, 1, 3)),
                labels=(("revision", str(self.made // PODS)),),
            )
        )
        self.balancer.update(Snapshot(SERVICE, tuple(sorted(self.pods, key=lambda e: e.key))))
        for node in self.balancer.nodes.values():
            self.balancer.set_connected(node, True)

    def request(self):
        """One more, in flight with some others; the address that was picked."""
        balancer, random = self.balancer, self.random
        self.clock.advance(TICK_S * random.randrange(4))
        balancer.beat()
        labels = None
        if self.labelled and random.random() < 0.5:
            labels = frozenset(random.choice(self.pods).labels)
        been = [self.held[-1].node] if self.held and random.random() < 0.1 else []
        self.held.append(balancer.pick_apart(been, str(random.randrange(50)), labels))
        picked = self.held[-1].node.endpoint.address
        report = LoadReport(in_flight=random.randrange(4), latency=TICK_S * random.randrange(1, 4))
        for node in balancer.take_probes():
            balancer.probed(node, report)
        while len(self.held) > random.randrange(30):
            pick = self.held.pop(random.randrange(len(self.held)))
            if random.random() < 0.02:
                balancer.withdraw(pick)
            outcome = random.choice(list(Outcome)) if random.random() < 0.2 else Outcome.SUCCESS
            pick.finish(outcome, report if random.random() < 0.8 else None)
        return picked

    def finish_all(self):
        while self.held:
            self.held.pop().finish(Outcome.SUCCESS)

    def live_until(self, pods):
        while self.made < pods:
            self.replace()
            for _ in range(10):
                self.request()
        self.finish_all()


@pytest.mark.parametrize("policy", policies.names())
def test_what_it_keeps_does_not_grow_with_the_pods_that_came_and_went(policy):
    fleet = Fleet(policy)
    fleet.live_until(FEW)
    before = reachable(fleet.balancer)
    fleet.live_until(MANY)
    assert fleet.balancer.in_flight == 0
    # A pod that is kept is a node, its endpoint and an entry, three objects at the least. What is known of the
    # last requests goes up and down by some hundred.
    assert reachable(fleet.balancer) - before < (MANY - FEW) / 2


@pytest.mark.parametrize("days", [25, 50, 5000])  # 2^31 ms, 2^32 ms, and years
@pytest.mark.parametrize("policy", policies.names())
def test_it_chooses_after_years_as_on_the_first_day(policy, days):
    def choices(begin):
        fleet = Fleet(policy, begin=begin)
        for i in range(200):
            if not i % 10:
                fleet.replace()
            yield fleet.request()

    assert list(choices(days * DAY_S)) == list(choices(0.0))


@pytest.mark.parametrize("policy", policies.names())
def test_after_hours_in_which_the_machine_slept_everybody_is_chosen_again(policy):
    fleet = Fleet(policy, labelled=False, zone="")
    balancer, clock = fleet.balancer, fleet.clock
    bad = set(list(balancer.nodes)[:2])
    for _ in range(2000):
        clock.advance(TICK_S)
        balancer.beat()
        pick = balancer.pick(str(fleet.random.random()))
        failed = pick.node.endpoint.key in bad
        pick.finish(Outcome.FAILURE if failed else Outcome.SUCCESS)
    under_way = [balancer.pick(str(i)) for i in range(40)]
    assert balancer.ejections
    clock.advance(6 * 3600.0)
    for pick in under_way:
        pick.finish(Outcome.TIMEOUT)
    seen = set()
    for _ in range(4000):
        clock.advance(TICK_S)
        balancer.beat()
        pick = balancer.pick(str(fleet.random.random()))
        seen.add(pick.node.endpoint.key)
        pick.finish(Outcome.SUCCESS)
    assert seen == set(balancer.nodes)
    assert {balancer.state_of(node) for node in balancer.nodes.values()} == {"ready"}
    assert {node.share for node in balancer.nodes.values()} == {1.0}
