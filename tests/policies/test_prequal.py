"""The pool of probes."""

from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import Outcome, Prober
from trimtab.policies.prequal import Prequal
from trimtab.testing.policy_contract import node


def fleet(n=10, **options):
    nodes = [node(i) for i in range(n)]
    made = Prequal(Random(1), **options)
    made.update(nodes, 0.0)
    return nodes, made


def probe(made, which, in_flight, latency=0.01, now=0.0):
    made.probed(which, LoadReport(in_flight=in_flight, latency=latency), now)


def test_three_probes_are_wanted_per_request_none_twice():
    nodes, made = fleet()
    assert isinstance(made, Prober)
    made.pick(0.0)
    wanted = made.take_probes()
    assert len(wanted) == len(set(wanted)) == 3
    assert set(wanted) <= set(nodes)
    assert made.take_probes() == []


def test_part_of_a_probe_is_owed_until_it_is_whole():
    _, made = fleet(probes=0.5)
    asked = []
    for _ in range(10):
        made.pick(0.0)
        asked += made.take_probes()
    assert len(asked) == 5


def test_the_cold_one_with_the_least_latency_is_next():
    nodes, made = fleet(3, remove=0.0)
    for i, (in_flight, latency) in enumerate([(1, 0.03), (1, 0.01), (50, 0.001)]):
        probe(made, nodes[i], in_flight, latency)
    assert made.pick(0.0) is nodes[1]


def test_who_never_answers_gets_its_share_all_the_same():
    nodes, made = fleet(4)
    for _ in range(400):
        for which in nodes[1:]:
            probe(made, which, 0)
        made.pick(0.0).in_flight += 1
    assert 70 <= nodes[0].in_flight <= 130  # 100 expected, standard deviation 9


def test_no_answer_is_worth_twice_the_fair_share():
    nodes, made = fleet(10)
    for _ in range(1000):
        for which in nodes:
            probe(made, which, 5, 0.05)
        probe(made, nodes[0], 0, 0.001)
        made.pick(0.0).in_flight += 1
    assert 100 < nodes[0].in_flight < 200


def test_one_that_failed_has_no_answers_any_more():
    nodes, made = fleet(remove=0.0)
    for which in nodes[:4]:
        probe(made, which, 1)
    made.done(nodes[0], Outcome.FAILURE, 0.01, 0.0, None)
    assert nodes[0] not in [p.node for p in made._pool]


def test_answers_age_and_the_pool_is_bounded():
    nodes, made = fleet(size=4, age_s=1.0)
    for which in nodes:
        probe(made, which, 1)
    assert len(made._pool) == 4
    made.pick(2.0)
    assert made._pool == []


def test_an_answer_of_one_that_left_is_dropped():
    nodes, made = fleet()
    made.update(nodes[1:], 0.0)
    probe(made, nodes[0], 0)
    assert made._pool == []
