"""What a cluster that changes again and again leaves behind: nothing. Row R1 of the fault matrix."""

import gc
import sys
import tracemalloc
from itertools import count

import pytest

from trimtab.model import PolicyConfig, Synced
from trimtab.xds import server_subscription
from xds_peer import CDS, EDS, Plane, service, snapshot

NAME = "orders.shop:8080"
UPDATES = 4_000


def test_updates_of_a_cluster_leave_nothing_behind():
    """The smallest object takes 16 bytes; ``bench/crowd.py`` has a million updates and a whole process."""
    made, fresh = Plane(Synced()), count(1)
    made.update(snapshot("10.0.0.1"))
    peers = [made.sotw(), made.delta("envoy")]
    peers[0].ask(EDS, NAME)
    peers[1].ask(EDS, [NAME])
    for peer in peers:
        peer.drain()

    def change(times):
        for _ in range(times):
            n = next(fresh)  # an address that was never there
            made.update(snapshot("10.0.0.1", f"10.{1 + n // 60_000}.{n // 250 % 240}.{n % 250}"))
            for peer in peers:
                peer.ack(peer.get())
                peer.session.take_events()

    def held():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        change(1_000)
        before = held()
        change(UPDATES)
        assert held() - before < 12 * UPDATES  # what else runs in this process allocates a little
    finally:
        tracemalloc.stop()


def test_many_changes_at_once_take_no_room_once_they_are_told():
    """A dict that is only popped from stays as large as it ever was: 40 bytes for each name."""
    made, many = Plane(Synced()), 3_000
    made.update(*(snapshot("10.0.0.1", of=service(f"s{n}")) for n in range(many)))
    peer = made.sotw()
    peer.ask(EDS, *(f"s{n}.shop:8080" for n in range(many)))
    (sub,) = peer.session._stream.subscriptions.values()
    assert len(sub.dirty) == many
    peer.drain()

    assert not sub.dirty
    assert not sub.raw
    assert sys.getsizeof(sub.dirty) == sys.getsizeof(sub.raw) == sys.getsizeof({})


def of_these(plane, variant, type_url, *names):
    peer = getattr(plane, variant)("envoy")
    peer.ask(type_url, names) if variant == "delta" else peer.ask(type_url, *names)
    return peer


@pytest.mark.parametrize("variant", ["sotw", "delta"])
def test_a_client_that_reads_and_answers_nothing_keeps_no_endpoints_that_are_out_of_date(variant):
    """A body has 5 KB for 200 endpoints; a cluster of thousands changes several times a second."""
    made = Plane(Synced())
    others = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(200)]
    made.update(snapshot(*others))
    peer = of_these(made, variant, EDS, NAME)
    updates, total = 200, 0
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(updates):
            made.update(snapshot(f"10.1.{n // 250}.{n % 250 + 1}", *others))
            total += len(peer.session.next_response())
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < total / 3
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("variant", ["sotw", "delta"])
@pytest.mark.parametrize("type_url", [CDS, EDS])
def test_of_what_is_not_answered_the_latest_is_remembered_however_much_a_response_holds(
    variant, type_url
):
    made, many = Plane(Synced()), 100
    ports = [service(f"s{n}") for n in range(many)]
    made.update(*(snapshot("10.0.0.1", of=port) for port in ports))
    peer = of_these(made, variant, type_url, *(port.cluster for port in ports))
    policies = ["random", "round_robin"]
    for n in range(25):
        policy = PolicyConfig(policies[n % 2])
        made.update(*(snapshot("10.0.0.1", of=port, policy=policy) for port in ports))
        while (last := peer.get()) is not None:
            latest = last
    (sub,) = peer.session._stream.subscriptions.values()
    noted = sum(1 + len(sent.resources) for sent in sub.outstanding.values())
    # Up to seven more, before they are counted again.
    assert noted <= 1000 + 2 * many + 7 * (1 + many)
    peer.ack(latest)
    assert {status.state for status in peer.session.status()} <= {"acked", "sent"}
    assert "acked" in {status.state for status in peer.session.status()}


def test_the_first_answers_of_a_large_client_are_all_remembered_until_it_has_read_them(monkeypatch):
    monkeypatch.setattr(server_subscription, "MAX_ASSIGNMENTS", 100)
    made, many = Plane(Synced()), 2_500
    ports = [service(f"s{n}") for n in range(many)]
    made.update(*(snapshot("10.0.0.1", of=port) for port in ports))
    peer = made.sotw("envoy")
    peer.ask(EDS, *(port.cluster for port in ports))
    responses = []
    while (response := peer.get()) is not None:
        responses.append(response)
    assert len(responses) > 8
    for response in responses:
        peer.ack(response)
    assert {status.state for status in peer.session.status()} == {"acked"}
