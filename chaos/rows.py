"""The faults: each is a function of a stage that does harm, waits, and mends what can be mended."""

import resource
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.waiting import pause

AGED = (("grpc.max_connection_age_ms", 500), ("grpc.max_connection_age_grace_ms", 5000))


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        name: for ``--rows``.
        fault: what it is, for people.
        harm: does it.
        netns: whether it needs a network of its own, and iptables.
        options: of gRPC's, for the pods.
    """

    name: str
    fault: str
    harm: Callable
    netns: bool = False
    options: tuple = ()


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


def _drop(*ways):
    def harm(stage):
        port = stage.pods[0].pod.port
        rules = [["INPUT", "-p", "tcp", f"--{way}", str(port), "-j", "DROP"] for way in ways]
        _with_rules(rules, 8)

    return harm


def _reset(stage):
    rule = ["INPUT", "-p", "tcp", "--dport", str(stage.pods[0].pod.port)]
    _with_rules([[*rule, "-j", "REJECT", "--reject-with", "tcp-reset"]], 8)


def _with_rules(rules, seconds):
    for rule in rules:
        subprocess.run(["iptables", "-A", *rule], check=True)
    pause(seconds)
    for rule in rules:
        subprocess.run(["iptables", "-D", *rule], check=True)


def _mute(stage):
    """Its process is gone, and what listens there now takes connections and says nothing."""
    server = stage.pods[0]
    server.process.kill()
    with socket.create_server(("127.0.0.1", server.pod.port), backlog=100):
        pause(8)
    stage.pods.remove(server)
    stage.tell()


def _fail(stage):
    _replaced(stage, failing=True)


def _slow(stage):
    _replaced(stage, slower_ms=1500)


def _replaced(stage, **how):
    """One pod begins to misbehave: another server takes over its port."""
    server = stage.pods[0]
    server.process.kill()
    stage.pods[0] = server.again(**how)
    pause(8)


def _descriptors(stage):
    """It can't accept connections, and those that it has come to their age."""
    pid = stage.pods[0].process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    least = len(list(Path(f"/proc/{pid}/fd").iterdir())) - 2
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (least, before[1]))
    pause(8)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def _roll(stage):
    for server in list(stage.pods):
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
    Row("drop", "one pod's packets dropped both ways for 8 s", _drop("dport", "sport"), netns=True),
    Row("drop-to", "packets to one pod dropped for 8 s", _drop("dport"), netns=True),
    Row("drop-from", "packets from one pod dropped for 8 s", _drop("sport"), netns=True),
    Row("reset", "every packet to one pod answered with RST for 8 s", _reset, netns=True),
    Row("mute", "one pod's port accepts connections and says nothing for 8 s", _mute),
    Row("fail", "one pod fails every request at once from then on, for 12 s", _fail),
    Row("slow", "one pod takes 1.5 s longer from then on, for 12 s", _slow),
    Row("goaway", "every pod ends each connection after 0.5 s, for 8 s", _nothing, options=AGED),
    Row(
        "descriptors",
        "one pod has no file descriptor left for 8 s; connections end after 0.5 s",
        _descriptors,
        options=AGED,
    ),
    Row("roll", "all pods replaced, one by one, with drain", _roll),
    Row("roll-hard", "all pods replaced, one by one, by SIGKILL as it is told", _roll_hard),
    Row("plane-kill", "control plane: SIGKILL, 5 s later started again", _plane_killed),
    Row("plane-slow", "control plane: killed, started with seconds to read", _plane_slow),
    Row("plane-freeze", "control plane: SIGSTOP for 8 s; a pod is killed meanwhile", _plane_frozen),
    Row("garbage", "the Service's manifest is garbage for 5 s", _garbage),
)
QUICK = ("kill", "freeze", "goaway", "plane-kill")
