"""Who counts as silent, and who doesn't: the client that slept, all at once, the last one."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.policies import Outcome
from trimtab.policies.random_pick import RandomPick
from trimtab.policies.round_robin import RoundRobin
from trimtab.policies.stalls import Stalls
from trimtab.testing.policy_contract import node

GOOD = Outcome.SUCCESS


class Fleet:
    """Endpoints that answer at once, but for those in ``frozen``."""

    def __init__(self, n, policy=None, **options):
        self.nodes = [node(i) for i in range(n)]
        self.told = []
        self.stalls = Stalls(policy or RoundRobin(Random(1)), self.told.append, **options)
        self.now = 0.0
        self.frozen = set()
        self.stalls.update(self.nodes, self.now)

    def requests(self, n, every=0.01, latency=0.01):
        """Where ``n`` requests went."""
        picked = []
        for _ in range(n):
            self.now += every
            chosen = self.stalls.pick(self.now)
            picked.append(chosen)
            if chosen not in self.frozen:
                self.stalls.done(chosen, GOOD, latency, self.now, None)
        return picked

    def freeze(self, *which):
        self.frozen = {self.nodes[i] for i in which}


def test_an_endpoint_that_has_fallen_silent_gets_no_new_requests():
    fleet = Fleet(10)
    fleet.freeze(0)
    fleet.requests(20)  # 0.2 s, and its patience is 0.05
    assert fleet.stalls.silent == {fleet.nodes[0]}
    assert fleet.told == [fleet.nodes[0]]
    assert fleet.nodes[0] not in fleet.requests(500)


def test_an_answered_question_brings_it_back_with_more_patience():
    fleet = Fleet(10)
    fleet.freeze(0)
    fleet.requests(20)
    fleet.stalls.alive(fleet.nodes[0], fleet.now)
    assert fleet.stalls.silent == frozenset()
    fleet.requests(9)
    assert fleet.stalls.silent == frozenset()  # 0.09 s at most; it has 0.1 now
    fleet.requests(30)
    assert fleet.stalls.silent == {fleet.nodes[0]}


def test_the_late_end_of_a_request_brings_it_back():
    fleet = Fleet(10)
    fleet.freeze(0)
    fleet.requests(20)
    fleet.stalls.done(fleet.nodes[0], GOOD, 0.2, fleet.now, None)
    assert fleet.stalls.silent == frozenset()


@pytest.mark.parametrize("end", [Outcome.TIMEOUT, Outcome.CANCELLED, Outcome.UNREACHED])
def test_an_end_that_the_endpoint_had_no_part_in_is_no_sign_of_life(end):
    fleet = Fleet(10)
    fleet.freeze(0)
    fleet.requests(20)
    fleet.stalls.done(fleet.nodes[0], end, 0.2, fleet.now, None)
    assert fleet.stalls.silent == {fleet.nodes[0]}


def test_an_endpoint_that_no_connection_comes_about_to_is_not_silent_for_it():
    fleet = Fleet(10)
    fleet.freeze(0)
    for _ in range(500):
        for chosen in fleet.requests(1):
            if chosen in fleet.frozen:
                fleet.stalls.done(chosen, Outcome.UNREACHED, 0.0, fleet.now, None)
    assert fleet.told == []


def test_a_connection_that_does_not_come_about_hides_no_request_that_waits():
    fleet = Fleet(10)
    fleet.freeze(0)
    fleet.requests(5)  # one of them waits there
    picked = fleet.now
    fleet.requests(1)
    fleet.stalls.done(fleet.nodes[0], Outcome.UNREACHED, fleet.now - picked, fleet.now, None)
    fleet.requests(20)
    assert fleet.stalls.silent == {fleet.nodes[0]}


def test_how_long_connections_do_not_come_about_is_no_usual_time():
    fleet = Fleet(10)
    fleet.requests(20)
    fleet.stalls.done(fleet.nodes[0], Outcome.UNREACHED, 5.0, fleet.now, None)
    assert fleet.stalls.usual_s == 0.01


@pytest.mark.parametrize("end", [Outcome.TIMEOUT, Outcome.CANCELLED])
def test_requests_that_are_given_up_after_part_of_an_answer_make_nobody_silent(end):
    fleet = Fleet(2)
    fleet.freeze(0, 1)
    for _ in range(50):
        (chosen,) = fleet.requests(1, every=0.02)
        chosen.heard = True
        fleet.now += 0.02
        fleet.stalls.done(chosen, end, 0.02, fleet.now, None)
    assert fleet.told == []


def test_part_of_an_answer_is_a_sign_of_life_until_it_is_followed_by_silence():
    fleet = Fleet(10)
    fleet.freeze(0)
    for _ in range(20):  # an answer that goes on
        fleet.nodes[0].heard = True
        fleet.requests(10, every=0.002)
    assert fleet.told == []
    fleet.requests(50)
    assert fleet.stalls.silent == {fleet.nodes[0]}


def test_part_of_an_answer_before_does_not_lengthen_the_patience():
    fleet = Fleet(10)
    fleet.nodes[0].heard = True
    fleet.requests(10)
    fleet.freeze(0)
    fleet.requests(20)
    assert fleet.stalls.silent == {fleet.nodes[0]}


def test_a_deadline_that_passed_does_not_hide_the_silence_before_it():
    fleet = Fleet(2)
    fleet.freeze(0)
    for _ in range(10):
        for chosen in fleet.requests(2, every=0.02):
            if chosen in fleet.frozen:
                fleet.stalls.done(chosen, Outcome.TIMEOUT, 0.02, fleet.now, None)
    assert fleet.stalls.silent == {fleet.nodes[0]}


def test_where_requests_take_long_silence_has_to_last_longer():
    fleet = Fleet(10)
    fleet.requests(100, latency=0.2)
    fleet.freeze(0)
    fleet.requests(35)
    assert fleet.stalls.silent == frozenset()
    fleet.requests(30)
    assert fleet.stalls.silent == {fleet.nodes[0]}


def test_even_where_they_take_minutes_half_a_second_of_silence_is_asked_about():
    fleet = Fleet(10)
    fleet.requests(100, latency=120.0)
    fleet.freeze(0)
    fleet.requests(70)
    assert fleet.stalls.silent == {fleet.nodes[0]}


def test_a_client_that_was_itself_stopped_finds_nobody_silent():
    fleet = Fleet(10)
    fleet.freeze(*range(10))
    fleet.requests(10, every=0.001)  # one request is under way at each
    fleet.now += 300.0
    fleet.requests(10, every=0.001)
    assert fleet.told == []


def test_an_idle_client_finds_a_silent_endpoint_after_a_few_requests():
    fleet = Fleet(10)
    fleet.freeze(0)
    fleet.requests(30, every=1.0)
    assert fleet.stalls.silent == {fleet.nodes[0]}
    assert fleet.told == [fleet.nodes[0]]


def test_when_most_have_fallen_silent_nobody_is_left_out():
    fleet = Fleet(10)
    fleet.freeze(*range(10))
    picked = fleet.requests(2000)
    assert all(fleet.nodes[i] in picked[-500:] for i in range(10))


@pytest.mark.parametrize(("n", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (10, 5)])
def test_at_most_half_are_out_and_never_the_last_one(n, most):
    fleet = Fleet(n)
    fleet.freeze(*range(n))
    seen = 0
    for _ in range(300):
        fleet.requests(1)
        seen = max(seen, len(fleet.stalls.silent))
    assert seen == most


@pytest.mark.parametrize(("n", "frozen", "there"), [(2, 1, 1), (4, 2, 3), (10, 3, 3)])
def test_where_others_leave_those_that_were_out_come_back_before_most_are_out(n, frozen, there):
    fleet = Fleet(n)
    fleet.freeze(*range(frozen))
    fleet.requests(40)
    assert fleet.stalls.silent == fleet.frozen
    left = fleet.nodes[:there]
    fleet.stalls.update(left, fleet.now)
    assert fleet.stalls.silent == frozenset()
    assert set(fleet.requests(there)) == set(left)


def test_nobody_stays_out_for_ever_without_being_tried():
    fleet = Fleet(10, longest_s=20.0)
    fleet.freeze(0)
    fleet.requests(20)
    assert fleet.nodes[0] not in fleet.requests(1900)
    assert fleet.nodes[0] in fleet.requests(200)


def test_one_that_left_and_returned_begins_anew():
    fleet = Fleet(10)
    fleet.freeze(0)
    fleet.requests(20)
    fleet.stalls.update(fleet.nodes[1:], fleet.now)
    fleet.frozen.clear()
    fleet.stalls.update(fleet.nodes, fleet.now)
    assert fleet.stalls.silent == frozenset()
    assert fleet.nodes[0] in fleet.requests(20)


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(st.sampled_from(["pick", "good", "late", "alive", "leave"]), st.integers(0, 5),
                  st.floats(0.0, 2.0)),
        max_size=80,
    ),
)  # fmt: skip
def test_whatever_happens_a_candidate_is_picked_and_the_last_one_stays(n, steps):
    fleet = Fleet(n, RandomPick(Random(1)))
    stalls, there = fleet.stalls, list(fleet.nodes)
    for what, which, wait in steps:
        fleet.now += wait
        one = fleet.nodes[which % n]
        if what == "pick":
            assert stalls.pick(fleet.now) in there
        elif what == "alive":
            stalls.alive(one, fleet.now)
        elif what == "leave" and (len(there) > 1 or one not in there):
            there = [x for x in fleet.nodes if (x in there) is not (x is one)]
            stalls.update(there, fleet.now)
        else:
            end = GOOD if what == "good" else Outcome.TIMEOUT
            stalls.done(one, end, wait, fleet.now, None)
        assert stalls.silent <= set(there)
        assert len(stalls.silent) <= max(len(there) // 2, int(len(there) == 2))
