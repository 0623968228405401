"""Runs one client through all cases and notes what it says and does."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.client import Client, Road
from harness.envoy import Envoy, aggregated
from harness.python_clients import native_client, trimtab_client
from harness.waiting import pause
from rejections.cases import CASES
from rejections.control_plane import ControlPlane
from rejections.worlds import CDS, EDS, World

INTEROP = Path(__file__).parents[1]
BUILT = INTEROP.parent / ".cache" / "interop"
# The client does little; what costs is the JVM's own compiling.
JVM_OPTIONS = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
ANSWER_WITHIN_S = 3
ENVOY_WITHIN_S = 15  # it may hold an answer back while a cluster warms
CALL_WITHIN_S = 2
SETTLING_S = 0.5  # from a verdict to the channel that follows it
LONGEST = 600  # characters of a text; the reason stands last in long ones


@dataclass
class Observed:
    """What one client does with one bad resource.

    Attributes:
        says: the text of its NACK; "ACK"; "nothing" within a few seconds.
        new: the outcome of a call where there was no good state before: a server's answer is
            "served", an error its status, a call that waits for its deadline "hangs".
        running: of a call where a good state was in use.
    """

    says: str
    new: str
    running: str


def native(address):
    return native_client(bootstrap(address))


def trimtab(address):
    return trimtab_client(bootstrap(address))


def node(address):
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap(address)}
    command = ["node", "client.mjs"]
    return Client("node", command, cwd=INTEROP / "node", env=environment)


def go(address):
    program = BUILT / "go-client"
    return Client("go", [program], env={"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap(address)})


def java(address):
    path = f"{BUILT}/java/classes:{BUILT}/java/libraries/*"
    command = ["java", *JVM_OPTIONS, "-cp", path, "dev.trimtab.interop.Main", "grpc"]
    return Client("java", command, env={"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap(address)})


# A client of another language that speaks harness.client's commands is one function here.
GRPC_CLIENTS = {"native": native, "go": go, "java": java, "node": node, "trimtab": trimtab}
# These end the client's process, so they are not among the others (test_rejections).
DEADLY = {"node": {"broken-path-expression"}}
NAMELESS = "empty-cluster-name"
CLIENTS = (*GRPC_CLIENTS, "envoy")


def observe(kind, port, directory):
    """What that client makes of each case: by the case's name. And its nodes."""
    seen, nodes = {}, []
    for cases in _batches(kind):
        with ControlPlane() as plane:
            run = _Envoy(plane, directory) if kind == "envoy" else _Grpc(plane, kind, cases)
            try:
                seen |= {case.name: asdict(o) for case, o in run.all(port)}
            finally:
                run.stop()
            nodes += plane.nodes
    return {case.name: seen[case.name] for case in CASES if case.name in seen}, nodes


def _batches(kind):
    """What is served together; in one response, two resources without a name can't be told apart."""
    if kind == "envoy":
        return [None]
    fit = [c for c in CASES if c.name not in DEADLY.get(kind, ())]
    return [[c for c in fit if c.name != NAMELESS], [c for c in fit if c.name == NAMELESS]]


class _Grpc:
    """All cases at once: each has two names of its own."""

    def __init__(self, plane, kind, cases):
        self._plane = plane
        self._client = GRPC_CLIENTS[kind](plane.address)
        self._cases = cases

    def stop(self):
        self._client.stop()

    def all(self, port):
        # A full set with a bad Listener or Cluster would be NACKed again and again on a shared
        # stream, and the texts run together: so one type after the other, and each spoiled once.
        running = {c: World(f"running.{c.name}", port) for c in self._cases}
        self._plane.publish(*(r for w in running.values() for r in w.resources()))
        served = self._calls(running.values(), within=10)
        assert set(served) == {"served"}, self.last[:3]
        versions = {}
        for case, world in running.items():
            case.spoil(world)
            resource = next(r for r in world.resources() if r[0] == case.type_url)
            versions[case] = (world.name, self._plane.publish(resource))
        later = self._verdicts(versions)
        pause(SETTLING_S)
        after = self._calls(running.values(), within=CALL_WITHIN_S)

        new = {c: World(f"new.{c.name}", port) for c in self._cases}
        versions = {}
        for case, world in new.items():
            case.spoil(world)
            versions[case] = (world.name, self._plane.publish(*world.resources()))
        first = self._calls(new.values(), within=CALL_WITHIN_S)
        told = self._verdicts(versions, within=0.1)
        for case, one, other, born, kept in zip(
            self._cases, told, later, first, after, strict=True
        ):
            yield case, Observed(_said(case, other or one, port), born, kept)

    def _calls(self, worlds, within):
        begun = [self._client.begin_call(Road(f"xds:///{w.name}"), within=within) for w in worlds]
        answers = [self._client.end_call(number) for number in begun]
        self.last = answers
        return [outcome(a) for a in answers]

    def _verdicts(self, versions, within=ANSWER_WITHIN_S):
        return [
            self._plane.verdict(case.type_url, name, version, within)
            for case, (name, version) in versions.items()
        ]


class _Envoy:
    """One case after the other; Clusters and endpoints only, for its listener is its own."""

    def __init__(self, plane, directory):
        self._plane = plane
        self._envoy = Envoy("envoy", aggregated("envoy", plane.address, "sotw"), directory)

    def stop(self):
        self._envoy._process.kill()  # noqa: SLF001 - stop() forbids rejections, our subject

    def all(self, port):
        cases = [c for c in CASES if c.type_url in (CDS, EDS)]
        worlds = [World(f"running.{c.name}", port) for c in cases]
        self._plane.publish(*(r for w in worlds for r in w.resources()))
        self._envoy.wait_ready()
        client = native_client(bootstrap(self._plane.address))
        try:
            for case in cases:
                yield case, self._one(case, port, client)
        finally:
            client.stop()

    def _one(self, case, port, client):
        good = World(f"running.{case.name}", port)
        self._envoy.wait_cluster(good.name)
        bad = World(good.name, port)
        case.spoil(bad)
        said, kept = self._put(case, bad, client)
        self._plane.publish(*good.resources())
        new = World(f"new.{case.name}", port)
        case.spoil(new)
        _, born = self._put(case, new, client)
        self._plane.publish(*World(new.name, port).resources())
        return Observed(_said(case, said, port), born, kept)

    def _put(self, case, world, client):
        version = self._plane.publish(*world.resources())
        said = self._plane.verdict(case.type_url, world.name, version, ENVOY_WITHIN_S)
        pause(0.1)
        return said, outcome(client.call(self._envoy.road(world.name), within=CALL_WITHIN_S))


def outcome(answer):
    """In a word."""
    if answer.server is not None:
        return "served"
    status = answer.error.split(":")[0]
    return "hangs" if status == "DEADLINE_EXCEEDED" else status


def _said(case, verdict, port):
    if verdict is None:
        return "nothing"
    if verdict.text is None:
        return "ACK"
    return normalised(case, verdict.text, port)


def normalised(case, text, port):
    """A text without what differs from run to run: ports, the case's own names, line ends."""
    text = re.sub(rf"\b{port}\b", "PORT", text)
    text = re.sub(rf"\b(?:new|running)\.{re.escape(case.name)}", "NAME", text)
    # Envoy's dumps begin with a mark that protobuf draws anew in each process.
    text = re.sub(r"goo\.gle/debug\w+", "goo.gle/debug", " ".join(text.split()))
    # On a shared stream the texts of several resources run together: ours alone.
    parts = re.split(r"; (?=(?:new|running)\.|NAME:|a resource:)", text)
    if mine := [p for p in parts if p.startswith("NAME:")]:
        text = mine[-1]
    elif re.match(r"(?:new|running)\.", text):
        unread = [p for p in parts if p.startswith("a resource:")]
        nameless = case.name.startswith("garbage") or case.name == NAMELESS
        text = unread[0] if unread and nameless else "ACK"
    return text if len(text) <= LONGEST else "..." + text[-LONGEST:]


def bootstrap(address):
    server = {
        "server_uri": address,
        "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    # gRPC for Node wants the locality.
    place = {"region": "r1", "zone": "z1", "sub_zone": ""}
    introduction = {"id": "rejections", "cluster": "tests", "locality": place}
    return json.dumps({"xds_servers": [server], "node": introduction})
