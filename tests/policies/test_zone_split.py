"""The proportional split: both sides' counts in, each client zone's shares out."""

from math import isclose
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.policies.zone_split import UNKNOWN, capacity_split, with_reserve, zone_split

ZONES = st.sampled_from(["a", "b", "c", "d", UNKNOWN])
COUNTS = st.dictionaries(ZONES, st.integers(0, 2**32 * 1000), max_size=5)
PODS = st.dictionaries(ZONES, st.integers(0, 100_000), max_size=5)


def arriving(clients, servers, reserve=0.0):
    """What of all requests each server zone gets, if every client pod sends the same."""
    rows = zone_split(clients, servers)
    counted = {zone: n for zone, n in clients.items() if n > 0}
    total = sum(counted.values())
    arrived = dict.fromkeys(servers, 0.0)
    for zone, n in counted.items():
        row = with_reserve(rows[zone], servers, reserve)
        for to, share in row.items():
            arrived[to] += share * n / total
    return arrived


@given(PODS, COUNTS)
def test_every_row_sums_to_one_and_names_only_zones_with_capacity(clients, servers):
    for row in zone_split(clients, servers).values():
        assert all(servers[zone] > 0 for zone in row)
        assert all(0.0 < share <= 1.0 + 1e-12 for share in row.values())
        if any(servers.values()):
            assert isclose(sum(row.values()), 1.0, rel_tol=1e-9)
        else:
            assert not row


@given(PODS, COUNTS, st.floats(0, 1))
def test_no_server_zone_gets_more_than_its_part_of_the_capacity(clients, servers, reserve):
    parts = capacity_split(servers)
    if any(clients.values()):
        for zone, part in arriving(clients, servers, reserve).items():
            assert part <= parts.get(zone, 0.0) + 1e-9


@given(PODS, COUNTS)
def test_the_own_zone_comes_first(clients, servers):
    rows = zone_split(clients, servers)
    parts = capacity_split(servers)
    everyone = sum(n for zone, n in clients.items() if zone != UNKNOWN)
    for zone, row in rows.items():
        if zone == UNKNOWN:
            continue
        # All of it, or as much as the zone can carry of what its clients ask.
        full = min(1.0, parts.get(zone, 0.0) / (clients[zone] / everyone))
        assert row.get(zone, 0.0) == pytest.approx(full, rel=1e-9, abs=1e-12)


@given(PODS, COUNTS, st.randoms(use_true_random=False))
def test_the_order_of_the_counts_makes_no_difference(clients, servers, random):
    def shuffled(counts):
        items = list(counts.items())
        random.shuffle(items)
        return dict(items)

    again = zone_split(shuffled(clients), shuffled(servers))
    # To the last bit, in the same order: replicas must make the same bytes.
    assert repr(again) == repr(zone_split(clients, servers))


def test_a_zone_keeps_all_of_its_own_requests_where_it_can():
    rows = zone_split({"a": 5, "b": 5, "c": 5}, {"a": 2, "b": 2, "c": 2})
    assert {zone: rows[zone] for zone in "abc"} == {"a": {"a": 1}, "b": {"b": 1}, "c": {"c": 1}}


def test_uneven_clients_spill_what_their_zone_cannot_carry():
    rows = zone_split({"a": 70, "b": 20, "c": 10}, {"a": 20, "b": 20, "c": 20})
    assert rows["b"] == {"b": 1.0}
    assert rows["c"] == {"c": 1.0}
    # a can carry a third of everything: the rest goes where there is room, 13.3 : 23.3.
    assert rows["a"]["a"] == pytest.approx((1 / 3) / 0.7)
    assert rows["a"]["c"] / rows["a"]["b"] == pytest.approx((1 / 3 - 0.1) / (1 / 3 - 0.2))


def test_a_small_zone_is_not_overrun():
    rows = zone_split({"a": 10, "b": 10, "c": 10}, {"a": 1, "b": 10, "c": 10})
    assert rows["a"]["a"] == pytest.approx(3 / 21)
    assert rows["a"]["b"] == pytest.approx(rows["a"]["c"])


def test_a_zone_without_pods_sends_to_where_there_is_room():
    rows = zone_split({"a": 2, "b": 1}, {"b": 1, "c": 2})
    assert rows == {UNKNOWN: {"b": 1 / 3, "c": 2 / 3}, "a": {"c": 1.0}, "b": {"b": 1.0}}


def test_a_client_in_an_unknown_zone_goes_by_capacity_and_so_does_one_that_was_not_counted():
    rows = zone_split({"a": 3, UNKNOWN: 5}, {"a": 1, "b": 3})
    assert rows[UNKNOWN] == {"a": 0.25, "b": 0.75}
    assert "b" not in rows


def test_nobody_stays_at_home_in_an_unknown_zone():
    rows = zone_split({"a": 1}, {UNKNOWN: 4})
    assert rows["a"] == {UNKNOWN: 1.0}


def test_one_zone_gets_everything():
    assert zone_split({"a": 3}, {"a": 1})["a"] == {"a": 1.0}


def test_without_counts_on_the_client_side_capacity_decides():
    assert zone_split({}, {"a": 1, "b": 3}) == {UNKNOWN: {"a": 0.25, "b": 0.75}}


def test_without_servers_there_is_nothing_to_share():
    assert zone_split({"a": 1}, {"a": 0}) == {UNKNOWN: {}, "a": {}}


def test_a_reserve_reaches_every_zone_and_moves_no_load():
    servers = {"a": 2, "b": 1, "c": 1}
    rows = zone_split({"a": 2, "b": 1, "c": 1}, servers)
    assert with_reserve(rows["a"], servers, 0.1) == pytest.approx(
        {"a": 0.95, "b": 0.025, "c": 0.025}
    )
    random = Random(1)
    clients = {zone: random.randint(1, 9) for zone in servers}
    assert arriving(clients, servers, 0.1) == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})
