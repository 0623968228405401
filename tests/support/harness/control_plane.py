"""``trimtab serve`` as a process that is started, killed and started again on the same ports."""

import functools
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass

from harness.ports import free_port
from harness.process import Process
from harness.waiting import Unmet, eventually

READY_WITHIN_S = 60


@dataclass(frozen=True)
class Addresses:
    """Where a control plane listens; the same in all its lives."""

    xds: str
    admin: str


def free_addresses():
    return Addresses(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")


@functools.cache
def printed_bootstrap(kind, server, identity):
    command = [sys.executable, "-m", "trimtab", "bootstrap", "--for", kind, "--server", server]
    for name, value in identity:
        command += [f"--{name.replace('_', '-')}", value]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class ControlPlane:
    """One control plane at fixed addresses.

    Args:
        addresses: where it listens.
        manifests: the directory that it reads; None: what it reads stands in ``options``.
        options: further arguments of ``trimtab serve``.
        config: its configuration file.
        env: further environment variables.
        inside: a command that runs it, such as ``["unshare", "--mount"]``.
        python: the interpreter; None: this one.
    """

    def __init__(
        self, addresses, manifests, *, options=(), config=None, env=None, inside=(), python=None
    ):
        self._options = ["--manifests", manifests] if manifests else []
        self._options += ["--config", config] if config else []
        self._options += options
        self._env = env
        self._program = [*inside, python or sys.executable, "-m", "trimtab", "serve"]
        self.address = addresses.xds
        self.admin = addresses.admin
        self._process = None

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process is not None and self._process.running

    def start(self):
        """Start it, and return when it answers."""
        self.start_silent()
        self.wait_ready()

    def start_silent(self):
        """Start it, and return when it listens; it answers nothing before its sources are read."""
        # Streams that are ended over the usual 5 s only make clients back off for longer.
        command = [
            *self._program,
            "--xds",
            self.address,
            "--admin",
            self.admin,
            "--drain",
            "1",
            *self._options,
        ]
        self._process = Process("control plane", command, env=self._env)
        self._process.expect("listening for xDS", within=READY_WITHIN_S)

    def wait_ready(self, within=READY_WITHIN_S):
        line = self._process.expect(r"serving xDS on (\S+), admin on http://(\S+)", within=within)
        assert line.groups() == (self.address, self.admin)

    def freeze(self):
        """SIGSTOP."""
        self._process.freeze()

    def thaw(self):
        """SIGCONT."""
        self._process.thaw()

    def kill(self):
        """SIGKILL."""
        self.assert_nobody_rejected_anything()
        self._process.kill()

    def stop(self):
        """End the test's control plane, whatever state it is in; 0 NACKs if it lives."""
        if self._process is None:
            return
        try:
            if self._process.running:
                self.assert_nobody_rejected_anything()
        finally:
            self._process.kill()

    def terminate(self):
        """SIGTERM: streams are ended one by one. Returns the exit code."""
        self.assert_nobody_rejected_anything()
        return self._process.terminate(within=20)

    def expect_line(self, pattern, *, within):
        """The match of the first line of its log that fits."""
        return self._process.expect(pattern, within=within)

    def metric(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.get("/metrics")[1].splitlines()
            if re.match(rf"{name}[ {{]", line) and all(label in line for label in wanted)
        )

    def bootstrap(self, kind, **identity):
        """What ``trimtab bootstrap --for KIND`` prints for this control plane."""
        return printed_bootstrap(kind, self.address, tuple(identity.items()))

    def get(self, path, within=20):
        """An admin page: status and text."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=within) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def clients(self):
        """The open streams, as /api/v1/clients shows them."""
        return json.loads(self.get("/api/v1/clients")[1])["clients"]

    def endpoints(self, name):
        """What is known of a cluster (canonical name), as /api/v1/clusters shows it; or None."""
        clusters = json.loads(self.get("/api/v1/clusters")[1])["clusters"]
        return next((c for c in clusters if c["name"] == name), None)

    def wait_clients(self, *nodes, within=15):
        """Wait until each of these nodes has a stream."""

        def look():
            missing = set(nodes) - {c["node"] for c in self.clients()}
            return Unmet(f"without {sorted(missing)}") if missing else True

        eventually(look, within=within, what="a stream of every client")

    def wait_acked(self, within=15):
        """Wait until every stream has accepted everything that was sent."""

        def look():
            open_ends = [
                (client["node"], r["type"], r["name"], r["state"])
                for client in self.clients()
                for r in client["resources"]
                if r["state"] != "acked"
            ]
            return Unmet(f"{open_ends}") if open_ends else True

        eventually(look, within=within, what="everything accepted")

    def assert_nobody_rejected_anything(self):
        rejected = [
            line
            for line in self.get("/metrics")[1].splitlines()
            if line.startswith(
                (
                    "trimtab_nacks_total",
                    "trimtab_stream_exceptions_total",
                    "trimtab_protocol_errors_total",
                )
            )
            and float(line.rpartition(" ")[2])
        ]
        details = [
            (client["node"], r["name"], r["error"])
            for client in self.clients()
            for r in client["resources"]
            if r["error"]
        ]
        assert not rejected, f"{rejected} {details}\n{self._process.tail()}"
