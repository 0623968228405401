"""Successes that a door puts down to be counted with the next choice."""

from random import Random

import pytest

from trimtab import policies
from trimtab.balancer import Balancer
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, Locality, PolicyConfig, Snapshot
from trimtab.policies import Outcome

ENDPOINTS = tuple(
    Endpoint(
        f"10.0.0.{i}",
        80,
        weight=1 + i % 2,
        locality=Locality(zone="ab"[i % 2]),
        labels=frozenset({("shard", str(i % 3))}),
    )
    for i in range(1, 10)
)
LABELS = (None, None, frozenset({("shard", "1")}), frozenset({("shard", "2")}))
BAD = (Outcome.FAILURE, Outcome.TIMEOUT, Outcome.CANCELLED, Outcome.OVERLOADED, Outcome.UNREACHED)


class Client:
    """A client with a clock of its own and a random course, by which all it does is the same for one seed.

    ``soon``: its door puts successes down; else it finishes them at once.
    """

    def __init__(self, policy, seed, *, soon):
        self.random = Random(seed)
        self.now = 100.0
        self.soon = soon
        self.stalled = []
        self.balancer = Balancer(
            "orders.shop:80",
            clock=lambda: self.now,
            random=Random(seed),
            zone=self.random.choice(("", "a")),
            stalled=self.stalled.append,
        )
        self.policy = PolicyConfig.of(policy)
        self.open = []
        self.chosen = []
        self.change()

    def change(self):
        self.balancer.update(
            Snapshot("orders.shop:80", self.some(ENDPOINTS, 5), policy=self.policy)
        )

    def some(self, all_of_them, least):
        return tuple(self.random.sample(all_of_them, self.random.randint(least, len(all_of_them))))

    def choose(self):
        labels = self.random.choice(LABELS)
        if labels is None or self.balancer.reaches(labels)[0]:
            key = self.random.choice((None, "a", "b"))
            been = [pick.node for pick in self.open[:1]] if self.random.random() < 0.1 else []
            self.open.append(self.balancer.pick_apart(been, key, labels))
            self.balancer.take_probes()
            self.chosen.append(self.open[-1].node.endpoint.address)

    def end(self):
        if not self.open:
            return
        pick = self.open.pop(self.random.randrange(len(self.open)))
        report = self.random.choice(
            (None, LoadReport(in_flight=self.random.randrange(9), latency=0.01))
        )
        if self.random.random() < 0.05:
            pick.finish(self.random.choice(BAD), report)
        elif self.soon:
            self.balancer.ends.append((pick, self.now, report))
        else:
            pick.finish(Outcome.SUCCESS, report)

    def disturb(self):
        nodes = list(self.balancer._nodes.values())  # to read ``nodes`` would count ends
        node = self.random.choice(nodes)
        match self.random.randrange(6):
            case 0:
                self.change()
            case 1:
                self.policy = PolicyConfig.of(self.policy.name, eject_s=self.random.randint(5, 9))
                self.change()
            case 2:
                self.balancer.alive(node)
            case 3:
                self.balancer.probed(
                    node, LoadReport(in_flight=self.random.randrange(9), latency=0.01)
                )
            case 4:
                self.balancer.withdraw(self.open.pop() if self.open else self.balancer.pick())
            case _:
                self.balancer.set_connected(node, connected=not node.connected)
                assert self.balancer.pickable

    def live(self, steps):
        for _ in range(steps):
            self.now += self.random.expovariate(100.0)
            step = self.random.random()
            if step < 0.5:
                self.choose()
            elif step < 0.92:
                self.end()
            else:
                self.disturb()

    def facts(self):
        balancer = self.balancer
        found = [
            (
                key,
                n.in_flight,
                n.picks,
                n.errors,
                n.seconds,
                n.share,
                balancer.state_of(n),
                balancer.cost(n),
            )
            for key, n in balancer.nodes.items()
        ]
        silent = [node.endpoint.address for node in self.stalled]
        return (
            self.chosen,
            found,
            silent,
            balancer.ejections,
            balancer.in_flight,
            balancer.describe(),
        )


@pytest.mark.parametrize("policy", policies.names())
@pytest.mark.parametrize("seed", range(4))
def test_whether_successes_are_counted_at_once_or_with_the_next_choice_makes_no_difference(
    policy, seed
):
    at_once, soon = Client(policy, seed, soon=False), Client(policy, seed, soon=True)
    at_once.live(1500)
    soon.live(1500)
    assert soon.facts() == at_once.facts()
    assert len(soon.chosen) > 500


def client_with_an_end():
    client = Client("token", 1, soon=True)
    pick = client.balancer.pick()
    client.now += 0.25
    client.balancer.ends.append((pick, client.now, None))
    client.now += 0.25
    return client.balancer, pick


@pytest.mark.parametrize(
    "ask",
    [
        lambda balancer, _: balancer.nodes,
        lambda balancer, _: balancer.in_flight,
        lambda balancer, _: balancer.describe(),
        lambda balancer, pick: balancer.cost(pick.node),
        lambda balancer, pick: balancer.is_silent(pick.node),
        lambda balancer, _: balancer.ejections,
        lambda balancer, _: balancer.reaches(LABELS[-1]),
        lambda balancer, pick: balancer.alive(pick.node),
        lambda balancer, pick: balancer.probed(pick.node, LoadReport(in_flight=1)),
        lambda balancer, _: balancer.pick(),
        lambda balancer, _: repr(balancer),
    ],
)
def test_whoever_asks_the_balancer_finds_an_end_counted_as_of_its_time(ask):
    balancer, pick = client_with_an_end()
    ask(balancer, pick)
    assert not pick.open
    assert pick.node.seconds == pytest.approx(0.25)


def test_an_end_that_is_put_down_goes_before_a_later_one_and_counts_once():
    balancer, pick = client_with_an_end()
    pick.finish(Outcome.FAILURE)
    balancer.ends.append((pick, 0.0, None))
    assert balancer.in_flight == 0
    assert pick.node.errors == 0
    assert pick.node.seconds == pytest.approx(0.25)


def test_what_a_server_said_is_read_with_the_end_and_only_for_a_policy_that_goes_by_it():
    read = []
    for policy in ("p2c", "token"):
        balancer = Balancer(
            "orders.shop:80",
            clock=lambda: 0.0,
            random=Random(1),
            policy=PolicyConfig.of(policy),
            report_of=read.append,
        )
        balancer.update(Snapshot("orders.shop:80", ENDPOINTS))
        balancer.ends.append((balancer.pick(), 0.0, policy))
        assert not read
        balancer.pick()
    assert read == ["token"]
