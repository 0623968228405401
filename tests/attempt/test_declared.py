"""What a Service's owner declares, as plans by method."""

from trimtab.attempt import Retry, plans_of
from trimtab.model import Repeatable


def test_the_closest_name_counts_and_nothing_else_is_repeated():
    plans = plans_of(Repeatable(("/shop.Orders/Get", "/shop.Carts/", "GET"), attempts=2))
    assert plans.of("/shop.Orders/Get").retry == Retry(2, ["UNAVAILABLE"])
    assert plans.of("/shop.Orders/Put").retry is None
    assert plans.of("/shop.Carts/Any").retry is not None


def test_everything_can_be_declared():
    retry = plans_of(Repeatable(("*",), ("ABORTED",), hedge_quantile=0.95)).of("/a.A/M").retry
    assert (retry.on, retry.hedge_quantile) == (frozenset({10}), 0.95)


def test_without_a_word_there_are_no_plans():
    assert not plans_of(None)
