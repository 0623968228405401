"""What a cluster that changes again and again leaves behind: nothing. Row R1 of the fault matrix."""

import gc
import sys
import tracemalloc
from itertools import count

from trimtab.model import Synced
from xds_peer import EDS, Plane, service, snapshot

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
