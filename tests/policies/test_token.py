"""One response, one token, one use."""

from collections import Counter
from random import Random

import pytest

from trimtab.load_report import LoadReport
from trimtab.policies import Outcome
from trimtab.policies.token import KEPT, SILENCE_S, STALE, WORTH, Token
from trimtab.testing.policy_contract import node


def fleet(n=10, credit=1000.0, **options):
    nodes = [node(i) for i in range(n)]
    token = Token(Random(1), **{"explore": 0.0, **options})
    token.update(nodes, 0.0)
    for which in nodes:
        # Each was tried, and left nothing.
        token.done(which, Outcome.ANSWERED, 0.01, 0.0, None)
        token._known[which].credit = credit
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
        for which in nodes[:8]:
            token._known[which].credit = 1000.0
    # Power of two choices uses no token; five standard deviations.
    assert abs(explored / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5


@pytest.mark.parametrize("n", [3, 8, 20])
def test_whoever_says_that_it_is_idle_runs_out_of_credit(n):
    nodes, token = fleet(n, credit=0.0, explore=None)
    went = []
    for _ in range(200 * n):
        for which in nodes[1:]:
            answer(token, which, in_flight=5, latency=0.05)
        answer(token, nodes[0], in_flight=0, latency=0.0001)
        went.append(token.pick(0.0) is nodes[0])
    # It is the best of all each time; 200 are the fair share.
    assert 1.2 < sum(went) / 200 < 2


def test_who_has_no_credit_leaves_no_token_until_it_is_chosen_blindly_again():
    nodes, token = fleet(20, explore=0.05, credit=0.0)
    token._known[nodes[1]].credit = 1.0
    for which in nodes[:2]:
        answer(token, which, in_flight=0)
    assert set(token._pool) == {nodes[1]}
    while token._known[nodes[0]].credit <= 0.0:
        token.pick(0.0)
    answer(token, nodes[0], in_flight=0)
    assert nodes[0] in token._pool


@pytest.mark.parametrize(("tokens", "worth"), [(0, 1.0), (1, WORTH), (4, 4 * WORTH)])
@pytest.mark.parametrize("n", [8, 40])
def test_a_blind_choice_is_worth_so_many_times_the_tokens_that_others_have_of_one(n, tokens, worth):
    nodes, token = fleet(n)
    for _ in range(500):
        token._picks += tokens  # so many used
        token.pick(0.0)  # there is none: blindly
    for known in token._known.values():
        known.credit = 0.0
    token._picks += tokens
    which = token.pick(0.0)
    assert token._known[which].credit == pytest.approx(worth, rel=1e-3)
    for _ in range(50 * n):
        token._picks += tokens
        token.pick(0.0)
    # What is not used is kept, up to a bound.
    saved = [token._known[which].credit for which in nodes]
    assert saved == pytest.approx([KEPT * worth] * n, rel=1e-3)


def test_each_choice_of_a_token_takes_one_of_the_credit():
    nodes, token = fleet(4, credit=5.0)
    for which in nodes[:2]:
        answer(token, which, in_flight=1)
    assert token.pick(0.0) is nodes[0]
    assert [token._known[which].credit for which in nodes] == [4.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("n", [4, 20])
def test_credit_lets_the_freshest_token_be_used_at_once(n):
    nodes, token = fleet(n, credit=10.0)
    for _ in range(5):
        for which, in_flight in zip(nodes[:3], [5, 5, 0], strict=True):
            answer(token, which, in_flight=in_flight)
        assert token.pick(0.0) is nodes[2]


def test_until_all_are_tried_nobody_has_credit():
    nodes = [node(i) for i in range(8)]
    token = Token(Random(1))
    token.update(nodes, 0.0)
    for _ in range(100):
        token.pick(0.0)
    for which in nodes[1:]:
        answer(token, which)
    token.pick(0.0)
    assert {known.credit for known in token._known.values()} == {0.0}
    answer(token, nodes[0])
    which = token.pick(0.0)
    assert token._known[which].credit > 0.0


def test_tokens_age():
    nodes, token = fleet(age_s=1.0, size=4)
    for which in nodes[:4]:
        answer(token, which, in_flight=0, now=0.0)
    token._picks += 4
    answer(token, nodes[5], in_flight=9, now=0.9)
    answer(token, nodes[6], in_flight=9, now=0.9)
    assert token.pick(1.5) in {nodes[5], nodes[6]}


@pytest.mark.parametrize(
    ("since", "age", "there"),
    [(3, 1.5, True), (4, 1.5, False), (3, STALE - 0.1, True), (3, STALE + 0.1, False)],
)
def test_a_client_with_few_requests_keeps_tokens_for_so_many_choices(since, age, there):
    nodes, token = fleet(4, age_s=1.0, size=4)
    for which, in_flight in zip(nodes[:2], [1, 5], strict=True):
        answer(token, which, in_flight=in_flight)
    token._picks += since - 1
    token.pick(age)
    assert (nodes[1] in token._pool) == there
    assert (nodes[0] in token._pool) is False  # used, or gone as well
    assert (token.cost(nodes[1], age) != "") == there


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
    assert max(known.credit for known in token._known.values()) <= KEPT * WORTH * token._between
