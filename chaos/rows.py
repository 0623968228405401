"""The faults: each is a function of a stage that does harm, waits, and mends what can be mended."""

import resource
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chaos import planes
from chaos.stage import CLIENT_ZONE
from chaos.trickle import Trickle
from harness.lost_packets import lost, rejected
from harness.waiting import pause

AGED = (("grpc.max_connection_age_ms", 500), ("grpc.max_connection_age_grace_ms", 5000))


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        name: for ``--rows``.
        fault: what it is, for people.
        harm: does it.
        netns: whether it needs a network and mounts of its own, and iptables.
        options: of gRPC's, for the pods.
        zoned: half of the pods are in zone a, as the clients are, and half in zone b.
        plane: makes the control plane's setting, given a directory.
    """

    name: str
    fault: str
    harm: Callable
    netns: bool = False
    options: tuple = ()
    zoned: bool = False
    plane: Callable = planes.plain


def _kill(stage):
    stage.lose(stage.pods[0])


def _freeze(stage):
    stage.pods[0].process.freeze()
    pause(8)
    stage.pods[0].process.thaw()


def _freeze_half(stage):
    for server in stage.pods[:4]:
        server.process.freeze()
    pause(8)
    for server in stage.pods[:4]:
        server.process.thaw()


def _drop(way, share=1):
    def harm(stage):
        with lost(way, stage.pods[0].pod.port, share):
            pause(8)

    return harm


def _reset(stage):
    with rejected(stage.pods[0].pod.port):
        pause(8)


def _mute(stage):
    """Its process is gone, and what listens there now takes connections and says nothing."""
    server = stage.pods[0]
    server.process.kill()
    with socket.create_server(("127.0.0.1", server.pod.port), backlog=100):
        pause(8)
    stage.pods.remove(server)
    stage.tell()


def _trickle(stage):
    """Its process is gone, and what listens there now answers five bytes a second."""
    server = stage.pods[0]
    server.process.kill()
    behind = stage.new_pod()
    with Trickle(server.pod.port, behind.pod.port):
        pause(8)
    behind.stop()
    stage.pods[0] = server.again()


def _zone(stage):
    """All of the clients' own zone at once."""
    lost = [server for server in stage.pods if server.pod.zone == CLIENT_ZONE]
    for server in lost:
        server.process.kill()
    pause(3)
    stage.pods = [server for server in stage.pods if server not in lost]
    stage.tell()
    pause(3)


def _fail(stage):
    _replaced(stage, failing=True)


def _fail_all(stage):
    """Nobody can do better than fail; what counts is when it is over."""
    for failing in (True, False):
        for at, server in enumerate(stage.pods):
            server.process.kill()
            stage.pods[at] = server.again(failing=failing)
        pause(8)


def _slow(stage):
    _replaced(stage, slower_ms=1500)


def _replaced(stage, **how):
    """One pod begins to misbehave: another server takes over its port."""
    server = stage.pods[0]
    server.process.kill()
    stage.pods[0] = server.again(**how)
    pause(8)


@contextmanager
def _without_descriptors(pid):
    """A process that can open none, and accept none."""
    least = len(list(Path(f"/proc/{pid}/fd").iterdir())) - 2
    with _limited(pid, resource.RLIMIT_NOFILE, least):
        yield


@contextmanager
def _limited(pid, what, least):
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (least, before[1]))
    try:
        yield
    finally:
        if Path(f"/proc/{pid}").exists():
            resource.prlimit(pid, what, before)


def _descriptors(stage):
    """It can't accept connections, and those that it has come to their age."""
    with _without_descriptors(stage.pods[0].process.pid):
        pause(8)


def _client_descriptors(stage):
    """Clients can open no connection, while two pods are replaced."""
    with ExitStack() as stack:
        for pid in stage.client_pids():
            stack.enter_context(_without_descriptors(pid))
        _replace(stage, 2)
        pause(4)


def _roll(stage):
    _replace(stage, len(stage.pods))


def _replace(stage, count):
    """As a Deployment does: a new one, the old one drains, the old one ends."""
    for server in list(stage.pods)[:count]:
        stage.pods.append(stage.new_pod())
        stage.pods.remove(server)
        stage.tell(server)
        pause(1)
        server.terminate()
        stage.tell()


def _roll_hard(stage):
    for server in list(stage.pods):
        stage.pods.append(stage.new_pod())
        stage.pods.remove(server)
        stage.tell()
        server.process.kill()


def _nothing(_stage):
    pause(8)


def _plane_killed(stage):
    stage.control_plane.kill()
    pause(5)
    stage.control_plane.start()
    pause(3)


def _plane_slow(stage):
    stage.manifests.put_what_takes_seconds_to_read()
    stage.control_plane.kill()
    stage.control_plane.start_silent()
    stage.control_plane.wait_ready(within=60)
    pause(3)


def _plane_frozen(stage):
    """It can't say that a pod has gone."""
    stage.control_plane.freeze()
    pause(2)
    stage.pods[0].process.kill()
    pause(6)
    stage.pods.pop(0)
    stage.tell()
    stage.control_plane.thaw()
    pause(2)


def _plane_dropped(way):
    """A pod dies meanwhile, which can't be told."""

    def harm(stage):
        port = stage.control_plane.address.rpartition(":")[2]
        with lost(way, port):
            pause(2)
            stage.pods.pop(0).process.kill()
            pause(6)
            stage.tell()
        pause(6)

    return harm


def _plane_unnamed(stage):
    """Nobody can resolve its name while it is restarted; two pods are replaced afterwards."""
    hosts = planes.HOSTS.read_text()
    planes.HOSTS.write_text("127.0.0.1 localhost\n")
    stage.control_plane.kill()
    stage.control_plane.start()
    pause(8)
    planes.HOSTS.write_text(hosts)
    pause(2)
    _replace(stage, 2)


def _plane_expired(stage):
    """Its certificate has expired, and it is restarted; a good one comes 8 s later."""
    certificate = stage.directory / "tls.crt"
    good = certificate.read_bytes()
    certificate.write_bytes((stage.directory / "expired.crt").read_bytes())
    stage.control_plane.kill()
    stage.control_plane.start()
    pause(8)
    certificate.write_bytes(good)
    pause(2)
    _replace(stage, 2)


def _plane_disk(stage):
    """Nothing can be written to its disk, and it tries; pods are replaced, and it is restarted."""
    disk = stage.directory / "disk"
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(1024))
    _replace(stage, 2)
    stage.control_plane.expect_line("state file .* can't be written", within=20)
    stage.control_plane.kill()
    stage.control_plane.start()
    _replace(stage, 2)


def _plane_memory(stage):
    """It gets no more memory, and then a large file to read; who minds pods starts it again."""
    pid = stage.control_plane.pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    with _limited(pid, resource.RLIMIT_AS, (pages + 256) * resource.getpagesize()):
        stage.manifests.put_what_takes_seconds_to_read()
        pause(2)
        _replace(stage, 2)
        pause(2)
    (stage.manifests.path / "bulky.yaml").unlink()
    if not stage.control_plane.running:
        stage.control_plane.start()
    pause(2)
    _replace(stage, 2)


def _clock(stage):
    """An hour on, two back, and to 1970."""
    clock = planes.clock(stage.directory)
    to_1970 = -round(time.time() - 86_400)  # noqa: TID251 - it is the wall clock that is set
    for ahead_s in (3600, -3600, to_1970):
        clock.set(ahead_s)
        pause(2)
        _replace(stage, 1)
    clock.set(0)
    pause(2)


def _garbage(stage):
    (name,) = [p for p in stage.manifests.path.iterdir() if p.suffix == ".yaml"]
    name.write_text("kind: [\n")
    pause(5)
    stage.tell()
    pause(2)


ROWS = (
    Row("kill", "SIGKILL of one pod; told 3 s later", _kill),
    Row("freeze", "SIGSTOP of one pod for 8 s", _freeze),
    Row("freeze-half", "SIGSTOP of four pods for 8 s", _freeze_half),
    Row("drop", "one pod's packets dropped both ways for 8 s", _drop("both ways"), netns=True),
    Row("drop-to", "packets to one pod dropped for 8 s", _drop("to"), netns=True),
    Row("drop-from", "packets from one pod dropped for 8 s", _drop("from"), netns=True),
    Row(
        "loss",
        "a fifth of one pod's packets dropped, by chance, both ways for 8 s",
        _drop("both ways", share=0.2),
        netns=True,
    ),
    Row("reset", "every packet to one pod answered with RST for 8 s", _reset, netns=True),
    Row("mute", "one pod's port accepts connections and says nothing for 8 s", _mute),
    Row("trickle", "one pod's port answers five bytes a second for 8 s (a slow loris)", _trickle),
    Row("fail", "one pod fails every request at once from then on, for 12 s", _fail),
    Row("fail-all", "all pods fail every request at once, for 8 s", _fail_all),
    Row("slow", "one pod takes 1.5 s longer from then on, for 12 s", _slow),
    Row("goaway", "every pod ends each connection after 0.5 s, for 8 s", _nothing, options=AGED),
    Row(
        "descriptors",
        "one pod has no file descriptor left for 8 s; connections end after 0.5 s",
        _descriptors,
        options=AGED,
    ),
    Row(
        "client-descriptors",
        "the clients have no file descriptor left for 6 s; two pods are replaced meanwhile",
        _client_descriptors,
    ),
    Row(
        "zone",
        "SIGKILL of all pods in the clients' zone, half of all; told 3 s later",
        _zone,
        zoned=True,
    ),
    Row("roll", "all pods replaced, one by one, with drain", _roll),
    Row("roll-hard", "all pods replaced, one by one, by SIGKILL as it is told", _roll_hard),
    Row("plane-kill", "control plane: SIGKILL, 5 s later started again", _plane_killed),
    Row("plane-slow", "control plane: killed, started with seconds to read", _plane_slow),
    Row("plane-freeze", "control plane: SIGSTOP for 8 s; a pod is killed meanwhile", _plane_frozen),
    Row(
        "plane-drop",
        "control plane: packets dropped both ways for 8 s; a pod is killed meanwhile",
        _plane_dropped("both ways"),
        netns=True,
    ),
    Row(
        "plane-drop-to",
        "control plane: packets to it dropped for 8 s; a pod is killed meanwhile",
        _plane_dropped("to"),
        netns=True,
    ),
    Row(
        "plane-drop-from",
        "control plane: packets from it dropped for 8 s; a pod is killed meanwhile",
        _plane_dropped("from"),
        netns=True,
    ),
    Row(
        "plane-dns",
        "control plane: its name can't be resolved for 8 s, in which it is restarted",
        _plane_unnamed,
        netns=True,
        plane=planes.by_name,
    ),
    Row(
        "plane-expired",
        "control plane: restarted with a certificate that has expired; 8 s later a good one",
        _plane_expired,
        plane=planes.with_tls,
    ),
    Row(
        "plane-disk",
        "control plane: the disk of its state file is full; it is restarted, pods are replaced",
        _plane_disk,
        netns=True,
        plane=planes.with_small_disk,
    ),
    Row(
        "plane-memory",
        "control plane: no memory left for a large file; pods are replaced meanwhile",
        _plane_memory,
    ),
    Row(
        "clock",
        "wall clock of control plane and clients (not of Envoy): 1 h on, 2 h back, then 1970; pods are replaced",
        _clock,
        plane=planes.with_a_clock_of_its_own,
    ),
    Row("garbage", "the Service's manifest is garbage for 5 s", _garbage),
)
QUICK = ("kill", "freeze", "zone", "goaway", "plane-kill")
