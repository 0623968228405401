"""The balancer of one cluster: membership in, picks out. The only stateful core.

It owns the nodes, counts what is in flight, and asks the policy which node is next. It does no
I/O: clock, randomness and the lock are arguments, so tests, simulator and production run the same
object. In-flight belongs to the node object, never to its address: an old request that ends after
its pod was replaced at the same address must not make the new pod look idle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from trimtab.errors import ConfigError, NoEndpoints
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, Health, PolicyConfig, Snapshot, is_other_pod
from trimtab.policies import Outcome, Policy
from trimtab.policies.stack import Stack


class Node:
    """One endpoint as this client sees it, for as long as it stays.

    Attributes:
        endpoint: the latest description of it.
        in_flight: requests of this client that are there now.
        picks: requests sent there so far.
        share: the part of its fair share that it should get now, above 0 and up to 1.
        since: when it began to serve, or was first seen [s, the balancer's clock]; -inf: it was
            there before this client, and nothing is known of its age.
        connected: whether a transport says that requests can leave at once.
        usable: whether the last snapshot lets it have new requests.
        transport: what the door keeps here (its channel or pool); opaque to the core.
    """

    __slots__ = (
        "connected",
        "endpoint",
        "in_flight",
        "picks",
        "share",
        "since",
        "transport",
        "usable",
    )

    def __init__(self, endpoint: Endpoint, since: float = -math.inf) -> None:
        self.endpoint = endpoint
        self.in_flight = 0
        self.picks = 0
        self.share = 1.0
        self.since = since
        self.connected = False
        self.usable = False
        self.transport: Any = None

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<Node {self.endpoint.target}: {state} | {self.in_flight} in flight>"


class Pick:
    """One request's claim on a node. ``finish`` ends it, exactly once, however often it is called.

    Attributes:
        node: where the request goes; the object, not its address.
        started: when it was picked, by the balancer's clock.
        open: whether it has yet to be finished.
    """

    __slots__ = ("_balancer", "node", "open", "started")

    def __init__(self, balancer: Balancer, node: Node, started: float) -> None:
        self._balancer = balancer
        self.node = node
        self.started = started
        self.open = True

    def finish(self, outcome: Outcome, report: LoadReport | None = None) -> None:
        """Say how the attempt ended; every call after the first does nothing."""
        if self.open:
            self._balancer.finish(self, outcome, report)


@dataclass(frozen=True, slots=True)
class Change:
    """What a door has to do after an update: connect to ``added``, let go of ``removed``.

    A removed node may still have requests in flight; they finish on it.
    """

    added: tuple[Node, ...]
    removed: tuple[Node, ...]


class Balancer:
    """Picks a node for every request to one cluster.

    Args:
        cluster: its name, for messages.
        clock: seconds, monotonic.
        random: the only source of randomness.
        wall: Unix seconds, which pods' start times are compared with; None: they are not used.
        zone: the client's own; "" is unknown, and all zones are the same then.
        labels: endpoints without all of these are left out.
        policy: fixes the strategy; None follows the snapshot's, else the default.
        lock: held for the length of one decision and never over I/O; a door that is used from
            several threads gives an ``RLock``, since a finaliser that ends a pick may run in the
            middle of a decision of its own thread.

    Raises:
        ConfigError: ``policy`` is unknown or has a bad parameter.
    """

    def __init__(
        self,
        cluster: str,
        *,
        clock: Callable[[], float],
        random: Random,
        wall: Callable[[], float] | None = None,
        zone: str = "",
        labels: Mapping[str, str] | None = None,
        policy: PolicyConfig | None = None,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._random = random
        self._wall = wall
        self._labels = frozenset((labels or {}).items())
        self._fixed = policy
        self._config = policy
        self._stack = Stack(policy, random, zone)
        self._policy: Policy = self._stack.outer
        self._locked = lock is not None
        self._lock: AbstractContextManager[Any] = lock if lock is not None else nullcontext()
        self._nodes: dict[tuple[str, int], Node] = {}
        self._candidates = 0
        self._stale = False
        self._unfit = 0
        self._number = random.getrandbits(64)
        self._leaving: set[Node] = set()
        self.snapshot: Snapshot | None = None
        self.policy_error: str = ""

    def update(self, snapshot: Snapshot) -> Change:
        """Take a new snapshot. Nodes of endpoints that stay are kept with all they learnt."""
        with self._lock:
            self._follow_policy(snapshot.policy)
            self._unfit = 0
            if self._labels:
                snapshot = self._selected(snapshot)
            subset = self._stack.subset
            if subset is not None and len(fit := snapshot.usable()) > subset.size:
                fit = subset.of(fit, self._number)
                snapshot = Snapshot.presorted(
                    snapshot.cluster, fit, snapshot.policy, snapshot.service
                )
            usable = {e.key for e in snapshot.usable()}
            added: list[Node] = []
            removed: list[Node] = []
            nodes: dict[tuple[str, int], Node] = {}
            for endpoint in snapshot.endpoints:
                node = self._nodes.get(endpoint.key)
                if node is not None and is_other_pod(node.endpoint, endpoint):
                    removed.append(node)
                    node = None
                if node is None:
                    node = Node(endpoint, self._since(endpoint))
                    added.append(node)
                node.endpoint = endpoint
                node.usable = endpoint.key in usable
                nodes[endpoint.key] = node
            removed.extend(node for key, node in self._nodes.items() if key not in nodes)
            for node in removed:
                node.usable = False
                if node.in_flight:
                    self._leaving.add(node)
            self._nodes = nodes
            self.snapshot = snapshot
            self._refresh()
            return Change(tuple(added), tuple(removed))

    def _selected(self, snapshot: Snapshot) -> Snapshot:
        fit = tuple(e for e in snapshot.endpoints if self._labels.issubset(e.labels))
        self._unfit = len(snapshot.endpoints) - len(fit)
        return Snapshot.presorted(snapshot.cluster, fit, snapshot.policy, snapshot.service)

    def _since(self, endpoint: Endpoint) -> float:
        """When a new node began to serve, by the balancer's clock.

        A pod's own start time is the same for all clients. Without it, those that are there when
        a client starts count as warm, and later ones as new.
        """
        if self._wall is not None and endpoint.ready_since is not None:
            return self._clock() - max(0.0, self._wall() - endpoint.ready_since)
        return -math.inf if self.snapshot is None else self._clock()

    def set_connected(self, node: Node, connected: bool) -> None:
        """A transport says whether requests can leave for this node at once.

        Nodes that are not connected get no request while another one is. The candidates are
        computed anew at the next pick, so a thousand calls in a row cost one pass.
        """
        if node.connected is not connected:
            with self._lock:
                node.connected = connected
                self._stale = True

    @property
    def pickable(self) -> bool:
        """Whether ``pick`` would find a node."""
        if self._stale:
            with self._lock:
                self._refresh()
        return self._candidates > 0

    @property
    def connected(self) -> bool:
        """Whether ``pick`` would find a node that a request can leave for at once."""
        return any(node.usable and node.connected for node in self._nodes.values())

    def pick(self, key: str | None = None) -> Pick:
        """Choose a node for one request and count it as in flight there.

        ``key`` is what a hashing policy goes by: requests of one key go to one endpoint.

        Raises:
            NoEndpoints: no endpoint may get a request; the text says why.
        """
        if self._locked:
            with self._lock:
                return self._pick(key)
        return self._pick(key)

    def _pick(self, key: str | None) -> Pick:
        if self._stale:
            self._refresh()
        if not self._candidates:
            raise NoEndpoints(self.why_empty())
        now = self._clock()
        node: Node = self._policy.pick(now, key)  # type: ignore[assignment]  # it was given Nodes only
        node.in_flight += 1
        node.picks += 1
        return Pick(self, node, now)

    def finish(self, pick: Pick, outcome: Outcome, report: LoadReport | None = None) -> None:
        """End a pick of this balancer; the same as ``pick.finish``."""
        if self._locked:
            with self._lock:
                self._finish(pick, outcome, report)
        else:
            self._finish(pick, outcome, report)

    def _finish(self, pick: Pick, outcome: Outcome, report: LoadReport | None) -> None:
        if not pick.open:  # two threads may both have found it open
            return
        pick.open = False
        node = pick.node
        node.in_flight -= 1
        now = self._clock()
        self._policy.done(node, outcome, now - pick.started, now, report)
        if self._leaving and not node.in_flight:
            self._leaving.discard(node)

    @property
    def reads_reports(self) -> bool:
        """Whether load reports of successes make a difference to the policy."""
        return self._stack.reads_reports

    @property
    def hash_key(self) -> str | None:
        """The metadata that holds a request's key, "": none does; None: no key is wanted."""
        return self._stack.hash_key

    @property
    def probing(self) -> bool:
        """Whether the policy wants probes: ``take_probes`` after every pick."""
        return self._stack.prober is not None

    def take_probes(self) -> list[Node]:
        """Whom to ask for a load report now; answers go to ``probed``."""
        prober = self._stack.prober
        if prober is None:
            return []
        with self._lock:
            return cast("list[Node]", prober.take_probes())

    def probed(self, node: Node, report: LoadReport) -> None:
        """An endpoint answered a probe."""
        prober = self._stack.prober
        if prober is not None:
            with self._lock:
                prober.probed(node, report, self._clock())

    def _follow_policy(self, wanted: PolicyConfig | None) -> None:
        if self._fixed is not None or wanted == self._config:
            self.policy_error = ""
            return
        try:
            stack = self._stack.follow(wanted)
        except ConfigError as error:
            # A control plane may name a strategy that this release lacks: the last one goes on.
            self.policy_error = str(error)
            return
        self.policy_error = ""
        self._config = wanted
        self._stack = stack
        self._policy = stack.outer

    def _refresh(self) -> None:
        self._stale = False
        usable = [node for node in self._nodes.values() if node.usable]
        connected = [node for node in usable if node.connected]
        candidates = connected or usable
        self._candidates = len(candidates)
        self._policy.update(candidates, self._clock())

    def why_empty(self) -> str:
        """Why a pick finds nothing, in words for the caller."""
        if self.snapshot is None:
            return f"{self._cluster}: no endpoints received yet"
        counts = self.snapshot.counts()
        if self._unfit and not self.snapshot.endpoints:
            wanted = ", ".join(f"{key}={value}" for key, value in sorted(self._labels))
            return f"{self._cluster}: none of {self._unfit} endpoints has the labels {wanted}"
        if not self.snapshot.endpoints:
            return f"{self._cluster}: the service has no endpoints"
        states = ", ".join(f"{n} {health.value}" for health, n in counts.items() if n)
        return (
            f"{self._cluster}: none of {len(self.snapshot.endpoints)} endpoints is ready ({states})"
        )

    @property
    def nodes(self) -> Mapping[tuple[str, int], Node]:
        """The nodes of the last snapshot, by address and port."""
        return self._nodes

    @property
    def in_flight(self) -> int:
        """Requests in flight, those on nodes that have left included."""
        with self._lock:
            return sum(n.in_flight for n in self._nodes.values()) + sum(
                n.in_flight for n in self._leaving
            )

    def __repr__(self) -> str:
        counts = self.snapshot.counts() if self.snapshot else {}
        states = ", ".join(f"{counts.get(h, 0)} {h.value}" for h in Health)
        return f"<Balancer {self._cluster}: {states} | {self.in_flight} in flight>"
