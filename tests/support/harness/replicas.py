"""Control planes behind one address that are replaced one by one, as a Deployment with maxSurge 1 does."""

from concurrent.futures import ThreadPoolExecutor

from harness.control_plane import ControlPlane, free_addresses
from harness.one_address import OneAddress
from harness.waiting import Unmet, eventually


class Replicas:
    """Replicas of one control plane.

    Args:
        manifests: the directory that all of them read.
        started: takes what must be stopped at the end.
        options: further arguments of ``trimtab serve``.

    Attributes:
        running: those that get connections, the oldest first.
    """

    def __init__(self, manifests, started, *, options=()):
        self._manifests = manifests
        self._started = started
        self._options = options
        self._one = started(OneAddress())
        self.running = []
        self._too_late = set()  # arrivals, by number

    @property
    def address(self):
        """Where clients connect."""
        return self._one.address

    @property
    def arrivals(self):
        """When each connection came [s], but for those that were led to a replica as it left: they come again."""
        came = enumerate(tuple(self._one.arrivals))
        return [at for number, (at, _) in came if number not in self._too_late]

    def add(self, *, source=None, python=None):
        """Start one more; it gets connections once it is ready.

        Args:
            source: the directory of another version's package; None: this one.
            python: another interpreter; None: this one.
        """
        env = {"PYTHONPATH": str(source)} if source else None
        new = self._started(
            ControlPlane(
                free_addresses(), self._manifests, options=self._options, env=env, python=python
            )
        )
        new.start()
        self.running.append(new)
        self._lead()
        return new

    def remove(self, old):
        """SIGTERM; the address leads elsewhere once it drains, not before: a Service is late."""
        before = len(self._one.arrivals)
        with ThreadPoolExecutor(1) as thread:
            ending = thread.submit(old.terminate)
            old.expect_line("draining", within=20)
            self.running.remove(old)
            self._lead()
            ending.result()
        came = enumerate(tuple(self._one.arrivals))
        self._too_late |= {n for n, (_, led_to) in came if n >= before and led_to == old.address}

    def clients(self):
        """The nodes of the open streams."""
        return [client["node"] for plane in self.running for client in plane.clients()]

    def wait_connected(self, nodes, *, within):
        """Wait until each of these has a stream at a replica that stays."""

        def look():
            missing = set(nodes) - set(self.clients())
            return Unmet(f"without {len(missing)}: {sorted(missing)[:5]}") if missing else True

        eventually(look, within=within, what="a stream of every client")

    def _lead(self):
        self._one.lead_to(*(plane.address for plane in self.running))
