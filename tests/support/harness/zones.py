"""Clients in two zones: who answers them, by the pods of both sides."""

from collections import Counter
from math import sqrt

from harness.manifests import Pod
from harness.waiting import Unmet, eventually

CALLS = 400
AT_ONCE = 50
# gRPC draws a locality for each request: four standard deviations, at the most.
TOLERANCE = 4 * sqrt(0.25 / CALLS)
NOBODY_S_PORT = 9
# gRPC for Java (1.75 to 1.85) now and then never ends a call that begins while its endpoint leaves, not
# even at its deadline; a family with https://github.com/grpc/grpc-java/issues/12185. Its client says so.
LOST = "lost: gRPC let its deadline pass"
MOST_LOST = 5


def front(manifests, control_plane, **zones):
    """The clients' own Service: so many pods by zone. Nobody calls it."""
    pods = [
        Pod(f"front-{zone}-{n}", NOBODY_S_PORT + n + 100 * place, zone=zone)
        for place, (zone, count) in enumerate(zones.items())
        for n in range(count)
    ]
    manifests.write("front", "shop", pods)
    eventually(
        lambda: control_plane.endpoints("front.shop:8080") is not None,
        within=10,
        what="the control plane knows the clients",
    )


def shares(client, road):
    """The zones' parts of so many requests; the server ``a`` alone is in zone a."""
    served = Counter()
    lost = 0
    for _ in range(CALLS // AT_ONCE):
        for number in [client.begin_call(road) for _ in range(AT_ONCE)]:
            answer = client.end_call(number)
            if LOST in (answer.error or ""):
                lost += 1
                continue
            assert answer.server, answer
            served["a" if answer.server == "a" else "b"] += 1
    assert lost <= MOST_LOST, f"{lost} of {CALLS} calls were lost"
    return {zone: served[zone] / served.total() for zone in "ab"}


def settle(roads, wanted, within=30):
    """Wait until the part of zone a is what is wanted.

    Args:
        roads: by name and zone of the client, the client and its road.
        wanted: by zone of the client.
        within: how long it may take [s].
    """

    def look():
        seen = {who: shares(client, road)["a"] for who, (client, road) in roads.items()}
        off = {w: (p, wanted[w[1]]) for w, p in seen.items() if abs(p - wanted[w[1]]) > TOLERANCE}
        return Unmet(f"{off}") if off else True

    eventually(look, within=within, what=f"zone a gets {wanted}")
