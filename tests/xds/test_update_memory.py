"""What a cluster that changes again and again leaves behind: nothing. Row R1 of the fault matrix."""

import gc
import tracemalloc
from itertools import count

from trimtab.model import Synced
from xds_peer import EDS, Plane, snapshot

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
