"""What a fault happens to: eight pods, a control plane, and three clients with the same load."""

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from harness.backends import Backends
from harness.control_plane import ControlPlane, free_addresses
from harness.envoy import Envoy, aggregated
from harness.manifests import Manifests
from harness.talk import Talk
from harness.waiting import pause

ROOT = Path(__file__).parents[1]
CLUSTER = "orders.shop:8080"
NATIVE, ENVOY, TRIMTAB = "native gRPC", "Envoy", "trimtab"
CLIENTS = (NATIVE, ENVOY, TRIMTAB)
PODS, WORK_MS = 8, 5
STARTED_WITHIN_S, STOPPED_WITHIN_S = 30, 30


def now():
    return time.monotonic()  # noqa: TID251 - the moments that load processes tell are of this clock


class Server:
    """A pod in a process of its own."""

    def __init__(self, name, options=(), **how):
        self._backends = Backends()
        self.process = self._backends.process
        self.pod = self._backends.open_with(name, options=options, **how)

    def again(self, **how):
        """Another server of this name at its port; ``how``: see ``Backends.open_with``."""
        return Server(self.pod.name, port=self.pod.port, **how)

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
        clients: which of ``CLIENTS`` send.
        rate: of each [requests/s].
        server_options: of gRPC's, for all pods.
    """

    def __init__(self, clients, rate, server_options=()):
        self._clients = clients
        self._rate = rate
        self._options = server_options
        self._open = ExitStack()
        self._made = 0

    def __enter__(self):
        with self._open as opening:
            directory = Path(opening.enter_context(tempfile.TemporaryDirectory()))
            (directory / "manifests").mkdir()
            self.manifests = Manifests(directory / "manifests")
            self.pods = []
            opening.callback(lambda: [server.stop() for server in self.pods])
            self.pods = [self.new_pod() for _ in range(PODS)]
            self.tell()
            self.control_plane = ControlPlane(free_addresses(), self.manifests.path)
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
        target, metadata = f"xds:///{CLUSTER}", {}
        bootstrap = self.control_plane.bootstrap("grpc")
        if client == ENVOY:
            envoy = Envoy(
                "envoy", aggregated("envoy", self.control_plane.address, "delta"), directory
            )
            stack.callback(envoy.stop)
            envoy.wait_ready()
            envoy.wait_cluster(CLUSTER)
            road = envoy.road(CLUSTER)
            target, metadata = road.target, road.metadata
        library = "trimtab.aio" if client == TRIMTAB else "grpc.aio"
        load = Talk(
            f"load through {client}",
            [sys.executable, "-m", "chaos.load_process", library],
            cwd=ROOT,
            env={
                "GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap,
                "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests' / 'support'}",
            },
        )
        stack.callback(load.process.kill)
        load.say(do="start", target=target, metadata=metadata, rate=self._rate, work_ms=WORK_MS)
        return _Entered(stack, load)

    # What faults are made of.

    def new_pod(self):
        """A further pod, which nobody has been told of."""
        self._made += 1
        return Server(f"pod-{self._made}", options=self._options)

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
