"""What a fault happens to: eight pods, a control plane, and clients with the same load."""

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import yaml

from chaos import planes
from harness.backends import Backends
from harness.client import Road
from harness.control_plane import ControlPlane, free_addresses, printed_bootstrap
from harness.envoy import Envoy, aggregated
from harness.manifests import Manifests
from harness.ports import free_port
from harness.talk import Talk
from harness.waiting import pause

ROOT = Path(__file__).parents[1]
CLUSTER = "orders.shop:8080"
NATIVE, ENVOY, TRIMTAB = "native gRPC", "Envoy", "trimtab"
DECLARED = "trimtab with retries"
CLIENTS = (NATIVE, ENVOY, TRIMTAB, DECLARED)
IN_TURN = "trimtab, whose policy looks at no endpoint"
POLICIES = {TRIMTAB: None, DECLARED: None, IN_TURN: "round_robin"}
PODS, WORK_MS = 8, 5
CLIENT_ZONE, *_ = ZONES = ("a", "b")
SAFE = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.005s",
                    "maxBackoff": "0.1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
STARTED_WITHIN_S, STOPPED_WITHIN_S = 30, 30


def now():
    return time.monotonic()  # noqa: TID251 - the moments that load processes tell are of this clock


class Server:
    """A pod in a process of its own."""

    def __init__(self, name, options=(), zone="z1", **how):
        self._backends = Backends()
        self.process = self._backends.process
        self.pod = replace(self._backends.open_with(name, options=options, **how), zone=zone)

    def again(self, **how):
        """Another server of this name at its port; ``how``: see ``Backends.open_with``."""
        return Server(self.pod.name, port=self.pod.port, zone=self.pod.zone, **how)

    def terminate(self):
        """As Kubernetes ends a pod; what is in flight may finish."""
        self._backends.close(self.pod.name)
        self._backends.stop()

    def stop(self):
        if self.process.running:
            self.process.thaw()
            self.process.kill()


class Stage:
    """Everything that runs, as a context manager.

    Args:
        row: the fault, for what it needs of pods and control plane.
        clients: which of ``CLIENTS`` and ``POLICIES`` send.
        rate: of each [requests/s].

    Attributes:
        directory: of the control plane's files.
        pods: the servers, by age.
    """

    def __init__(self, row, clients, rate):
        self._row = row
        self._clients = clients
        self._rate = rate
        self._open = ExitStack()
        self._made = 0
        self._processes = []

    def __enter__(self):
        with self._open as opening:
            directory = Path(opening.enter_context(tempfile.TemporaryDirectory()))
            self.directory = directory
            (directory / "manifests").mkdir()
            self.manifests = Manifests(directory / "manifests")
            opening.callback(planes.forget_mounts, directory)
            self._setting = self._row.plane(directory)
            self.pods = []
            opening.callback(lambda: [server.stop() for server in self.pods])
            self.pods = [self.new_pod() for _ in range(PODS)]
            self.tell()
            self.control_plane = ControlPlane(
                free_addresses(),
                self.manifests.path,
                options=self._setting.options,
                env=dict(self._setting.env),
            )
            opening.callback(self.control_plane.stop)
            self.control_plane.start()
            self._loads = {}
            for client in self._clients:
                self._loads[client] = opening.enter_context(self._load(client, directory))
            for load in self._loads.values():
                load.answer(within=STARTED_WITHIN_S, started=True)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error):
        self._open.close()

    def _load(self, client, directory):
        stack = ExitStack()
        road = Road(f"xds:///{CLUSTER}")
        if client == ENVOY:
            envoy, road = self._envoy(directory)
            self._processes.append(envoy.pid)
            stack.callback(envoy.stop)
        library = "trimtab.aio" if client in POLICIES else "grpc.aio"
        load = Talk(
            f"load through {client}",
            [sys.executable, "-m", "chaos.load_process", library],
            cwd=ROOT,
            env={
                "GRPC_XDS_BOOTSTRAP_CONFIG": self._bootstrap("grpc"),
                "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests' / 'support'}",
                **dict(self._setting.env),
            },
        )
        stack.callback(load.process.kill)
        self._processes.append(load.process.pid)
        load.say(
            do="start",
            target=road.target,
            metadata=road.metadata,
            rate=self._rate,
            work_ms=WORK_MS,
            policy=POLICIES.get(client),
            config=SAFE if client == DECLARED else "",
        )
        return _Entered(stack, load)

    def _envoy(self, directory):
        """An Envoy, and the way through it to the pods."""
        if self._setting == planes.Setting():
            zone = CLIENT_ZONE if self._row.zoned else ""
            printed = aggregated("envoy", self.control_plane.address, "delta", zone=zone)
            envoy = Envoy("envoy", printed, directory)
            envoy.wait_ready()
            envoy.wait_cluster(CLUSTER)
            return envoy, envoy.road(CLUSTER)
        address = f"127.0.0.1:{free_port()}"
        routes = directory / "routes.yaml"
        edge = {"listeners": [address], "admin": f"127.0.0.1:{free_port()}"}
        routes.write_text(yaml.safe_dump({**edge, "routes": [{"service": CLUSTER}]}))
        printed = self._bootstrap("envoy", ("routes", str(routes)))
        envoy = Envoy("envoy", printed, directory)
        envoy.wait_ready()
        return envoy, Road(address)

    def _bootstrap(self, kind, *more):
        port = self.control_plane.address.rpartition(":")[2]
        trust = (("ca", str(self._setting.ca)),) if self._setting.ca else ()
        where = (("zone", CLIENT_ZONE),) if self._row.zoned else ()
        return printed_bootstrap(kind, f"{self._setting.host}:{port}", (*trust, *where, *more))

    # What faults are made of.

    def new_pod(self):
        """A further pod, which nobody has been told of."""
        zone = ZONES[self._made % len(ZONES)] if self._row.zoned else "z1"
        self._made += 1
        return Server(f"pod-{self._made}", options=self._row.options, zone=zone)

    def client_pids(self):
        """Of the processes that send, and of the Envoy between."""
        return list(self._processes)

    def tell(self, *draining):
        """Have the control plane read which pods there are."""
        pods = [server.pod for server in self.pods] + [s.pod.draining() for s in draining]
        self.manifests.write("orders", "shop", pods)

    def lose(self, server):
        """The pod is gone; the control plane hears of it 3 s later, as a kubelet's silence costs."""
        server.process.kill()
        pause(3)
        self.pods.remove(server)
        self.tell()

    def results(self):
        """Stop the load. By client: the moments of all requests, and those that failed with why."""
        for load in self._loads.values():
            load.say(do="stop")
        answers = {
            client: load.answer(within=STOPPED_WITHIN_S, stopped=True)
            for client, load in self._loads.items()
        }
        return {client: (a["sent"], a["failed"]) for client, a in answers.items()}


class _Entered:
    def __init__(self, stack, value):
        self._stack = stack
        self._value = value

    def __enter__(self):
        return self._value

    def __exit__(self, *error):
        self._stack.close()
