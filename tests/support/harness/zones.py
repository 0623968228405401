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
    """The zones' parts of so many requests, and how many were lost; ``a`` alone is in zone a."""
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
    return {zone: served[zone] / max(1, served.total()) for zone in "ab"}, lost


def settle(roads, wanted, within=60):
    """Wait until the part of zone a is what is wanted, and no call is lost.

    What is lost on the way there is gRPC for Java's own doing, and can be many at once.

    Args:
        roads: by name and zone of the client, the client and its road.
        wanted: by zone of the client.
        within: how long it may take [s].
    """

    def look():
        off = {}
        for who, (client, road) in roads.items():
            parts, lost = shares(client, road)
            if lost or abs(parts["a"] - wanted[who[1]]) > TOLERANCE:
                off[who] = f"{parts['a']:.3f} for {wanted[who[1]]}, {lost} of {CALLS} lost"
        return Unmet(f"{off}") if off else True

    eventually(look, within=within, what=f"zone a gets {wanted}")
