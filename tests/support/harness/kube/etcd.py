"""etcd, the store behind API servers."""

import json
import urllib.request

from harness.kube.binaries import binary
from harness.ports import free_port
from harness.process import Process
from harness.waiting import Unmet, eventually


class Etcd:
    """One etcd; several API servers may keep their objects in it, each under its own prefix."""

    def __init__(self, directory):
        self._directory = directory
        self.address = f"127.0.0.1:{free_port()}"
        self._process = None

    @property
    def url(self):
        return f"http://{self.address}"

    def start(self):
        peers = f"http://127.0.0.1:{free_port()}"
        command = [binary("etcd"), "--data-dir", self._directory, "--unsafe-no-fsync"]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        command += ["--initial-cluster", f"default={peers}"]
        self._process = Process("etcd", command)

        def look():
            try:
                return self._revision() > 0
            except OSError as error:
                return Unmet(f"{error}\n{self._process.tail()}")

        eventually(look, within=20, what="etcd answers")

    def compact(self):
        """Forget every revision but the newest: no watch can begin at an older one."""
        self._post("/v3/kv/compaction", {"revision": str(self._revision()), "physical": True})

    def stop(self):
        if self._process is not None:
            self._process.kill()

    def _revision(self):
        return int(self._post("/v3/maintenance/status", {})["header"]["revision"])

    def _post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)
