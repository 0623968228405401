"""What is remembered of tokens."""

import pytest

from trimtab.control.authentication import Unauthenticated
from trimtab.control.authorization import Identity
from trimtab.control.verdicts import KEEP_REFUSED_S, KEEP_S, SavedVerdict, Verdicts

WEB = "system:serviceaccount:shop:web"
REFUSED = Unauthenticated("no", reason="refused")


class Times:
    def __init__(self):
        self.loop = 5.0
        self.wall = 1_000_000.0

    def pass_(self, seconds):
        self.loop += seconds
        self.wall += seconds


@pytest.fixture
def times():
    return Times()


@pytest.fixture
def verdicts(times):
    return Verdicts(clock=lambda: times.loop, wall=lambda: times.wall)


def web(times, lasts_s=600.0):
    return Identity(WEB, "shop", expires_at=times.wall + lasts_s)


def test_a_verdict_is_fresh_for_a_minute_and_a_refusal_for_seconds(verdicts, times):
    identity = web(times)
    verdicts.note("a", identity)
    verdicts.note("b", REFUSED)
    assert verdicts.fresh("a") is identity
    assert verdicts.fresh("b") is REFUSED
    times.pass_(KEEP_REFUSED_S)
    assert verdicts.fresh("b") is None
    times.pass_(KEEP_S - KEEP_REFUSED_S)
    assert verdicts.fresh("a") is None


def test_the_last_good_verdict_stands_until_the_token_s_own_end(verdicts, times):
    verdicts.note("a", web(times, lasts_s=600))
    times.pass_(599)
    assert verdicts.last_good("a") == web(times, lasts_s=1)
    times.pass_(1)
    assert verdicts.last_good("a") is None


def test_what_names_no_end_or_was_refused_since_has_no_last_good_verdict(verdicts, times):
    verdicts.note("endless", Identity(WEB, "shop"))
    verdicts.note("revoked", web(times))
    verdicts.note("revoked", REFUSED)
    for key in ("endless", "revoked", "unknown"):
        assert verdicts.last_good(key) is None
    assert verdicts.saved() == []


def test_garbage_takes_no_place_from_what_was_accepted(verdicts, times):
    identity = web(times)
    verdicts.note("good", identity)
    for i in range(25_000):
        verdicts.note(f"garbage {i}", REFUSED)
    assert verdicts.fresh("good") is identity
    assert verdicts.fresh("garbage 0") is None  # neither list grows without end
    assert verdicts.fresh("garbage 24999") is REFUSED


def test_the_oldest_of_too_many_accepted_makes_room(verdicts, times):
    for i in range(20_001):
        verdicts.note(f"token {i}", web(times))
    assert verdicts.fresh("token 0") is None
    assert verdicts.fresh("token 1") is not None


def test_another_life_believes_what_was_saved_but_asks_first(verdicts, times):
    verdicts.note("a", web(times, lasts_s=600))
    verdicts.note("short", web(times, lasts_s=10))
    times.pass_(20)
    saved = verdicts.saved()
    assert saved == [SavedVerdict("a", WEB, times.wall + 580)]
    later = Verdicts(clock=lambda: times.loop, wall=lambda: times.wall)
    later.restore([*saved, SavedVerdict("b", "system:node:a", times.wall + 580)])
    assert later.fresh("a") is None
    assert later.last_good("a") == web(times, lasts_s=580)
    assert later.last_good("b") is None


def test_only_news_is_worth_saving(verdicts, times):
    identity = web(times)
    for verdict, news in ((identity, 1), (identity, 0), (REFUSED, 1), (REFUSED, 0)):
        before = verdicts.revision
        verdicts.note("a", verdict)
        assert verdicts.revision - before == news
