"""One response, one token, one use."""

from collections import Counter
from math import inf
from random import Random

import pytest

from trimtab.load_report import LoadReport
from trimtab.policies import Outcome
from trimtab.policies.token import MOST, SAVED, SILENCE_S, WORTH, Token
from trimtab.testing.policy_contract import node


def fleet(n=10, **options):
    nodes = [node(i) for i in range(n)]
    token = Token(Random(1), **{"explore": 0.0, **options})
    token.update(nodes, 0.0)
    for which in nodes:
        # Each was tried, and left nothing.
        token.done(which, Outcome.ANSWERED, 0.01, 0.0, None)
    return nodes, token


def answer(token, which, in_flight=None, latency=0.01, now=0.0, outcome=Outcome.SUCCESS):
    report = None if in_flight is None else LoadReport(in_flight=in_flight, latency=latency)
    token.done(which, outcome, latency, now, report)


def test_the_cold_one_with_the_least_latency_is_next_and_each_token_is_used_once():
    nodes, token = fleet()
    for i, latency in enumerate([0.03, 0.01, 0.02, 0.04]):
        answer(token, nodes[i], in_flight=1, latency=latency)
    assert [nodes.index(token.pick(0.0)) for _ in range(3)] == [1, 2, 0]


def test_latencies_that_are_alike_leave_it_to_what_is_in_flight():
    nodes, token = fleet(quantile=1.0)
    for i, (in_flight, latency) in enumerate([(3, 0.1), (1, 0.125), (0, 0.127)]):
        answer(token, nodes[i], in_flight=in_flight, latency=latency)
    assert [nodes.index(token.pick(0.0)) for _ in range(2)] == [1, 0]


def test_a_hot_one_is_left_to_the_last():
    nodes, token = fleet(quantile=0.5)
    for i, in_flight in enumerate([1, 9, 1, 8]):
        answer(token, nodes[i], in_flight=in_flight, latency=0.001 if in_flight > 5 else 0.01)
    assert {nodes.index(token.pick(0.0)) for _ in range(2)} == {0, 2}
    assert nodes.index(token.pick(0.0)) == 3  # all hot: the least in flight


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.SUCCESS])
def test_only_success_leaves_a_token_and_anything_else_takes_the_old_one(outcome):
    nodes, token = fleet()
    for which in nodes[:3]:
        answer(token, which, in_flight=1)
    answer(token, nodes[0], in_flight=0, latency=0.0001, outcome=outcome)
    assert nodes[0] not in [token.pick(0.0) for _ in range(1)]
    assert nodes[0] not in token._pool


def test_of_what_is_alike_the_oldest_is_used_so_that_one_after_the_other_goes_round():
    nodes, token = fleet(4)
    for which in nodes:
        answer(token, which, in_flight=1)
    went = []
    for _ in range(8):
        which = token.pick(0.0)
        answer(token, which, in_flight=1)
        went.append(nodes.index(which))
    assert went == [0, 1, 2, 3] * 2


@pytest.mark.parametrize("seed", range(5))
def test_one_request_at_a_time_soon_reaches_every_endpoint_of_a_small_fleet(seed):
    nodes = [node(i) for i in range(8)]
    token = Token(Random(seed))
    token.update(nodes, 0.0)
    used = Counter()
    for _ in range(200):
        which = token.pick(0.0)
        used[which] += 1
        answer(token, which)
        if sum(used.values()) == 60:
            assert len(used) == 8
    assert max(used.values()) < 1.5 * 200 / 8


@pytest.mark.parametrize(("n", "share"), [(2, 0.15), (8, 0.15), (12, 0.1), (24, 0.05), (500, 0.05)])
def test_a_small_fleet_is_explored_more_than_a_large_one(n, share):
    nodes, token = fleet(n, explore=None)
    explored = 0
    for _ in range(20_000):
        for which in nodes[:8]:
            answer(token, which, in_flight=1)
        before = dict(token._pool)
        which = token.pick(0.0)
        explored += len(token._pool) == len(before)  # no token was used
        # Nobody is above the bounds.
        for which in nodes[:8]:
            token._known[which].due, token._known[which].left = 0.0, inf
    # Power of two choices uses no token; five standard deviations.
    assert abs(explored / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5


def test_whoever_says_that_it_is_idle_waits_for_its_turn():
    nodes, token = fleet(8)
    went = []
    for _ in range(400):
        for which in nodes[1:]:
            answer(token, which, in_flight=5, latency=0.05)
        answer(token, nodes[0], in_flight=0, latency=0.0001)
        went.append(token.pick(0.0) is nodes[0])
    # The turns saved up, and no more than MOST of 8 afterwards.
    assert 400 / 8 < sum(went) <= MOST * 400 / 8 + SAVED


def test_a_blind_choice_is_worth_as_many_tokens_as_others_get():
    nodes, token = fleet(20, explore=0.05)
    token._known[nodes[0]].left = 0.0
    token._known[nodes[1]].left = 1.0
    for which in nodes[:2]:
        answer(token, which, in_flight=0)
    assert nodes[0] not in token._pool
    assert nodes[1] in token._pool
    while token._known[nodes[0]].left <= 0.0:
        token.pick(0.0)
    assert 1.0 <= token._known[nodes[0]].left <= 1 / 0.05  # chosen blindly again


@pytest.mark.parametrize(
    ("tokens", "worth"), [(0, 1.0), (1, WORTH), (4, 4 * WORTH), (50, 1 / 0.05)]
)
def test_a_blind_choice_is_worth_little_where_there_are_few_tokens_for_each(tokens, worth):
    nodes, token = fleet(40, explore=0.05)
    which = nodes[0]
    for _ in range(500):
        token._picks += tokens  # so many used
        which = token.pick(0.0)  # there is none: blindly
    assert token._known[which].left == pytest.approx(worth, rel=1e-3)


def test_tokens_age():
    nodes, token = fleet(age_s=1.0)
    for which in nodes[:4]:
        answer(token, which, in_flight=0, now=0.0)
    answer(token, nodes[5], in_flight=9, now=0.9)
    answer(token, nodes[6], in_flight=9, now=0.9)
    assert token.pick(1.5) in {nodes[5], nodes[6]}


def test_the_pool_is_bounded_and_keeps_the_newest():
    nodes, token = fleet(20, size=4)
    for which in nodes:
        answer(token, which, in_flight=1)
    assert set(token._pool) == set(nodes[-4:])


def test_without_reports_its_own_view_serves():
    nodes, token = fleet(3)
    nodes[0].in_flight = 5
    for which in nodes:
        answer(token, which)
    assert [token.pick(0.0) for _ in range(2)].count(nodes[0]) == 0


def test_one_answer_without_a_report_and_all_are_compared_by_our_own_view():
    nodes, token = fleet(4, quantile=0.0)
    nodes[2].in_flight = 1
    answer(token, nodes[0])
    answer(token, nodes[1], in_flight=7)  # all clients', where ours alone is none
    answer(token, nodes[2], in_flight=0, latency=0.0001)
    assert [token.pick(0.0) for _ in range(2)] == nodes[:2]


def test_when_all_have_reported_for_a_while_reports_count_again():
    nodes, token = fleet(4, quantile=0.0, age_s=60.0)
    answer(token, nodes[0])
    answer(token, nodes[1], in_flight=7, now=SILENCE_S - 0.1)
    assert token._pool[nodes[1]].in_flight == 0
    answer(token, nodes[1], in_flight=7, now=SILENCE_S)
    answer(token, nodes[2], in_flight=6, now=SILENCE_S)
    assert [token._pool[which].in_flight for which in nodes[1:3]] == [7, 6]


def test_servers_of_streams_report_no_latency_and_what_they_say_of_in_flight_counts():
    nodes, token = fleet(4)
    for which, in_flight in zip(nodes, [5, 1, 3, 3], strict=True):
        token.done(which, Outcome.SUCCESS, 0.01, 0.0, LoadReport(in_flight=in_flight))
    assert token.pick(0.0) is nodes[1]


def test_weights_count():
    nodes = [node(0, weight=1), node(1, weight=10), node(2, weight=1)]
    token = Token(Random(1), explore=0.0, quantile=0.0)
    token.update(nodes, 0.0)
    for which in nodes:
        answer(token, which, in_flight=10)
    assert token.pick(0.0) is nodes[1]


def test_an_endpoint_that_left_has_no_token():
    nodes, token = fleet(4)
    for which in nodes:
        answer(token, which, in_flight=1)
    token.update(nodes[1:], 0.0)
    answer(token, nodes[0], in_flight=0)
    assert all(token.pick(0.0) is not nodes[0] for _ in range(20))


def test_tokens_go_on_being_left_when_a_large_fleet_becomes_a_small_one():
    nodes = [node(i) for i in range(30)]
    token = Token(Random(1))
    token.update(nodes, 0.0)
    for fleet_now in (nodes, nodes[:4]):
        token.update(fleet_now, 0.0)
        for _ in range(1000):
            answer(token, token.pick(0.0))
    assert len(token._pool) > 2


def test_no_endpoint_of_a_small_fleet_leaves_tokens_without_end_in_a_large_one():
    nodes = [node(i) for i in range(30)]
    token = Token(Random(1), explore=0.1)
    token.update(nodes[:4], 0.0)
    for _ in range(100):
        answer(token, token.pick(0.0))
    token.update(nodes, 0.0)
    assert max(known.left for known in token._known.values()) <= 10.0
