"""What clients do beyond a bad resource alone: beside good ones, in the first request, when too large."""

from dataclasses import asdict, dataclass

from harness.client import Road
from harness.envoy import Envoy, aggregated
from harness.python_clients import native_client
from harness.waiting import eventually, pause
from rejections.control_plane import ControlPlane
from rejections.observing import ANSWER_WITHIN_S, GRPC_CLIENTS, bootstrap, outcome
from rejections.worlds import EDS, LDS, RDS, World

LARGE = 5 * 2**20  # what gRPC takes by default is 4 MiB
OTHER = {"address": "127.0.0.2"}
CALL_WITHIN_S = 2
SETTLING_S = 0.3
KINDS = (*GRPC_CLIENTS, "envoy", "envoy-delta")


@dataclass
class Behaviour:
    """One client.

    Attributes:
        user_agent: its node's name for the library.
        features: its node's client features.
        nodes_again: whether later requests of a stream carry the node too.
        code: of a NACK.
        first_good, first_bad: the outcome of calls to two new services whose endpoints share a
            response; those of one are bad. See `observing.outcome`.
        update_good: the same for services in use, whose good one gets another server: which
            state a call meets, "old" or "new", or what went wrong.
        update_bad: as ``first_bad``.
        large_says: to endpoints above 4 MiB: "ACK", a NACK's or a stream's end.
        large_running: the outcome of a call to that service, which was in use.
    """

    user_agent: str
    features: list
    nodes_again: bool
    code: int
    first_good: str
    first_bad: str
    update_good: str
    update_bad: str
    large_says: str
    large_running: str


def behave(kind, port, directory):
    """Observe one client; servers "a" and "b" as of ``table.open_both``."""
    with ControlPlane() as plane:
        client = _Envoy(kind, plane, directory) if kind.startswith("envoy") else _Grpc(kind, plane)
        try:
            return asdict(_behaviour(plane, client, port))
        finally:
            client.stop()


class _Grpc:
    def __init__(self, kind, plane):
        self._kind = kind
        self._client = GRPC_CLIENTS[kind](plane.address)

    def begin(self, *names):
        # Most clients have a stream per channel, so only the clusters of one share a response.
        roads = [
            Road(f"xds:///{name}")
            if self._kind == "trimtab"  # one stream for all, and one cluster per name
            else Road(f"xds:///{name.partition('.')[0]}", {"x-cluster": name})
            for name in names
        ]
        return [self._client.begin_call(road, within=CALL_WITHIN_S) for road in roads]

    def end(self, calls):
        return [self._client.end_call(c) for c in calls]

    def stop(self):
        self._client.stop()


class _Envoy:
    def __init__(self, kind, plane, directory):
        transport = "delta" if kind == "envoy-delta" else "sotw"
        self._envoy = Envoy(kind, aggregated(kind, plane.address, transport), directory)
        self._client = native_client(bootstrap(plane.address))

    def begin(self, *names):
        return list(names)

    def end(self, names):
        self._envoy.wait_ready()
        begun = [self._client.begin_call(self._envoy.road(n), within=CALL_WITHIN_S) for n in names]
        return [self._client.end_call(number) for number in begun]

    def stop(self):
        self._client.stop()
        self._envoy._process.kill()  # noqa: SLF001 - stop() forbids rejections, our subject


def _behaviour(plane, client, port):
    # A client that has just started is slow, which must not look like one that hangs.
    warm = World("warm", port)
    plane.publish(*warm.resources())
    eventually(lambda: _outcomes(client, "warm") == ["served"], within=15, what="a first answer")
    first = _first(plane, client, port)
    worlds = {name: World(name, port) for name in ("update.good", "update.bad", "large")}
    plane.publish(*_resources("update", *list(worlds.values())[:2]), *worlds["large"].resources())
    eventually(
        lambda: set(_outcomes(client, *worlds)) == {"served"}, within=10, what="all services served"
    )
    good, bad, large = worlds.values()
    good.assignment["endpoints"][0]["lb_endpoints"] = [good.endpoint(socket=OTHER)]
    _spoil(bad)
    version = plane.publish(_endpoints(bad), _endpoints(good), together=True)
    verdict = plane.verdict(EDS, bad.name, version, ANSWER_WITHIN_S)
    assert verdict is not None, "no answer to bad endpoints"
    pause(SETTLING_S)
    updated, kept = client.end(client.begin(good.name, bad.name))
    plane.publish(*(_endpoints(World(w.name, port)) for w in (good, bad)))

    padding = {"filter_metadata": {"padding": {"text": "x" * LARGE}}}
    large.assignment["endpoints"][0]["lb_endpoints"] = [large.endpoint(metadata=padding)]
    again = plane.nodes_again
    version = plane.publish(_endpoints(large))
    said = plane.verdict(EDS, large.name, version, ANSWER_WITHIN_S)
    pause(SETTLING_S)
    (running,) = _outcomes(client, large.name)
    node = plane.nodes[0]
    return Behaviour(
        node.user_agent_name,
        sorted(node.client_features),
        again > 0,
        verdict.code,
        *first,
        {"a": "old", "b": "new"}.get(updated.server, outcome(updated)),
        outcome(kept),
        "nothing" if said is None else said.text or "ACK",
        running,
    )


def _first(plane, client, port):
    """Endpoints come once both services wait for theirs, so that one response carries them."""
    good, bad = World("first.good", port), World("first.bad", port)
    plane.publish(*(r for r in _resources("first", bad, good) if r[0] != EDS))
    calls = client.begin(good.name, bad.name)
    plane.wait_asked(EDS, good.name, bad.name, within=10)
    _spoil(bad)
    version = plane.publish(_endpoints(bad), _endpoints(good), together=True)
    assert plane.verdict(EDS, bad.name, version, ANSWER_WITHIN_S), "no answer to bad endpoints"
    pause(SETTLING_S)
    return [outcome(a) for a in client.end(calls)]


def _resources(channel, *worlds):
    """Those of the worlds, and of a channel that a header leads to each of them."""
    way = World(channel, worlds[0].port)
    way.routes["virtual_hosts"][0]["routes"] = [
        {
            "match": {
                "prefix": "",
                "headers": [{"name": "x-cluster", "string_match": {"exact": world.name}}],
            },
            "route": {"cluster": world.name},
        }
        for world in worlds
    ]
    own = {w.name for w in worlds}
    shared = [] if channel in own else [x for x in way.resources() if x[0] in (LDS, RDS)]
    return [*shared, *(x for w in worlds for x in w.resources())]


def _spoil(world):
    """Two faults, so that each client rejects it (rejections.md)."""
    endpoint = world.endpoint(load_balancing_weight=0)
    world.assignment["endpoints"] = [world.group(priority=1, lb_endpoints=[endpoint])]


def _endpoints(world):
    return next(r for r in world.resources() if r[0] == EDS)


def _outcomes(client, *names):
    return [outcome(a) for a in client.end(client.begin(*names))]
