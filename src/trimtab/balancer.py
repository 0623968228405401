"""The balancer of one cluster: membership in, picks out. The only stateful core.

It owns the nodes, counts what is in flight, and asks the policy which node is next. It does no
I/O: clock, randomness and the lock are arguments, so tests, simulator and production run the same
object. In-flight belongs to the node object, never to its address: an old request that ends after
its pod was replaced at the same address must not make the new pod look idle.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from trimtab import policies
from trimtab.errors import ConfigError, NoEndpoints
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, Health, PolicyConfig, Snapshot, ZoneSplit, is_other_pod
from trimtab.policies import CANCELLED, SUCCESS, Outcome
from trimtab.policies.apart import elsewhere, less_busy
from trimtab.policies.selection import Labels, Selected, Selection, in_words, missing
from trimtab.policies.stack import Stack, disables
from trimtab.zone_crossings import ZoneCrossings

BEAT_S = 1.0  # how often a door says that the process is awake
_LATE_S = 0.5  # a beat that is later by this much was held up: the process was stopped
_REDRAWS = 16  # how often the policy is asked for another node than those of earlier attempts
_MOST_SELECTIONS = 1024  # sets of labels whose statistics are kept

_READ_OF_A_PICK = frozenset({"asked", "in_flight", "share"})  # by judges, and here
_BAD = frozenset({Outcome.FAILURE, Outcome.UNREACHED, Outcome.TIMEOUT})
_ERRORS = _BAD | {Outcome.OVERLOADED}


class Node:
    """One endpoint as this client sees it, for as long as it stays.

    Attributes:
        endpoint: the latest description of it.
        in_flight: requests of this client that are there now.
        picks: requests sent there so far.
        errors: those of them that it failed, refused or left without an answer until the deadline.
        seconds: how long those that have ended took, together [s].
        share: the part of its fair share that it should get now, above 0 and up to 1.
        since: when it began to serve, or was first seen [s, the balancer's clock]; -inf: it was
            there before this client, and nothing is known of its age.
        heard: whether part of an answer came from it since this was last looked at; doors say so.
        asked: see ``policies.Node``.
        connected: whether a transport says that requests can leave at once.
        usable: whether the last snapshot lets it have new requests.
        transport: what the door keeps here (its channel or pool); opaque to the core.
    """

    __slots__ = (
        "asked",
        "connected",
        "endpoint",
        "errors",
        "heard",
        "in_flight",
        "picks",
        "seconds",
        "share",
        "since",
        "transport",
        "usable",
    )

    def __init__(self, endpoint: Endpoint, since: float = -math.inf) -> None:
        self.endpoint = endpoint
        self.in_flight = 0
        self.picks = 0
        self.errors = 0
        self.seconds = 0.0
        self.share = 1.0
        self.since = since
        self.heard = False
        self.asked: float | None = None
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
        transport: the node's as it was then; a door may set it to another of the node's own.
        call: what the door keeps here (its native call); opaque to the core.
    """

    __slots__ = ("_balancer", "call", "node", "open", "started", "transport")

    def __init__(self, balancer: Balancer, node: Node, started: float) -> None:
        self._balancer = balancer
        self.node = node
        self.started = started
        self.open = True
        self.transport: Any = node.transport
        self.call: Any = None

    def finish(self, outcome: Outcome, report: LoadReport | None = None) -> None:
        """Say how the attempt ended; every call after the first does nothing."""
        if self.open:
            self._balancer.finish(self, outcome, report)

    def drop(self) -> None:
        """Say from a finaliser that nobody cares any more; it ends with the next ``take_back``.

        A finaliser may run in the middle of a decision of the same thread, which it must not disturb.
        """
        self._balancer.dropped.append(self)


class LabelledPick(Pick):
    """The claim of a request that asked for labels.

    Attributes:
        selection: the endpoints with these labels.
        selected: the node as that selection's policy knows it.
    """

    __slots__ = ("selected", "selection")

    def __init__(
        self, balancer: Balancer, started: float, selection: Selection[Node], chosen: Selected[Node]
    ) -> None:
        super().__init__(balancer, chosen.node, started)
        self.selection = selection
        self.selected = chosen


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
        policy: fixes the strategy; None follows the snapshot's, else the default. A snapshot that
            switches balancing off (``disable``) goes before it.
        stalled: called with each node that has fallen silent, so that somebody asks it for a sign of
            life and tells ``alive``. Under the lock: it must not block or call back. None: nobody
            asks, and silent nodes are tried with requests after a while.
        raised: told by ``say_raised``, which ``beat`` calls, outside of the lock, what a strategy of the user's
            own raised where it was told of ends: its name, the first error since it was told last, how many
            there were. None: who ends a pick gets what it raises.
        lock: held for the length of one decision and never over I/O. An ``RLock``, since a finaliser that
            ends a pick may run in the middle of a decision of its own thread; where there is one thread
            too, since Python's own stand-in for a lock costs four function calls per request. None: none.
        report_of: makes a load report of what a door puts into ``ends``; None: that is one, or None.

    Attributes:
        ends: successes that have yet to be counted: the pick, when it ended, and what the server said. A
            door that is told of ends between other work puts them here in place of calling ``finish``: many at
            once, just before the next choice, take a third of the time, since what they need is in the
            processor's caches then. Whoever asks this balancer for anything finds them counted.
        reads_reports: whether load reports of successes make a difference to the policy.
        hash_key: the metadata that holds a request's key, "": none does; None: no key is wanted.
        probing: whether the policy wants probes: ``take_probes`` after every pick.
        connects: connections that came about so far.
        disconnects: those of them that are gone.
        tells_connections: whether ``connects`` means anything; a door whose transport tells nobody
            of its connections says False.

    Raises:
        ConfigError: ``policy`` is unknown or has a bad parameter.
    """

    __slots__ = (
        "__weakref__", "_ask", "_asking", "_base", "_beat", "_by_label", "_candidates", "_choose",
        "_clock", "_cluster", "_config", "_crossings", "_fixed", "_labels", "_learn", "_leaving",
        "_lock", "_members", "_nodes", "_number", "_past", "_raised", "_random", "_report_of", "_round",
        "_selections", "_stack", "_stale", "_tell_raised", "_tell_stalled", "_untaken", "_untold", "_updated",
        "_wall", "_whole", "_woke", "_zone", "connects", "disconnects", "dropped", "ends",
        "hash_key", "policy_error", "probing", "reads_reports", "snapshot", "tells_connections",
    )  # fmt: skip

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
        stalled: Callable[[Node], None] | None = None,
        raised: Callable[[str, Exception, int], None] | None = None,
        lock: AbstractContextManager[Any] | None = None,
        report_of: Callable[[Any], LoadReport | None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._random = random
        self._wall = wall
        self._labels = frozenset((labels or {}).items())
        self._zone = zone
        self._base: Mapping[str, float] = {}
        self._past: dict[str, int] = {}
        self._crossings = ZoneCrossings(zone)
        self.dropped: deque[Pick] = deque()
        self.ends: deque[tuple[Pick, float, Any]] = deque()
        self._report_of = report_of
        self._fixed = policy
        self._config = policy
        self._tell_raised = raised
        self._raised: tuple[Exception, int] | None = None
        self._tell_stalled = stalled
        self._ask = None if stalled is None else self._stalled
        self._adopt(Stack(policy, random, zone, self._ask))
        self._lock: AbstractContextManager[Any] = lock or nullcontext()
        self._nodes: dict[tuple[str, int], Node] = {}
        self._untold = Change((), ())  # of updates that a strategy of the user's own did not take
        self._candidates = 0
        self._members: list[Node] = []
        self._stale = False
        self._untaken = (
            False  # a strategy of the user's own raised when it was given the candidates
        )
        self._whole: Snapshot | None = None
        self._round = 0
        self._selections: dict[Labels, Selection[Node]] = {}
        self._asking: set[Selection[Node]] = set()
        self._by_label: dict[tuple[str, str], list[Node]] | None = None
        self._number = random.getrandbits(64)
        self._beat = math.inf
        self._woke = -math.inf
        self._leaving: set[Node] = set()
        self._updated: float | None = None
        self.connects = 0
        self.disconnects = 0
        self.tells_connections = True
        self.snapshot: Snapshot | None = None
        self.policy_error: str = ""

    def update(self, snapshot: Snapshot) -> Change:
        """Take a new snapshot. Nodes of endpoints that stay are kept with all they learnt."""
        with self._lock:
            self._settle()
            self._follow_policy(snapshot.policy)
            self._follow_zones(snapshot.zones)
            self._whole = snapshot
            self._updated = self._clock()
            if self._labels:
                fit = tuple(e for e in snapshot.endpoints if self._labels.issubset(e.labels))
                snapshot = Snapshot.presorted(
                    snapshot.cluster, fit, snapshot.policy, snapshot.service, snapshot.zones
                )
            subset = self._stack.subset
            if subset is not None and len(fit := snapshot.usable()) > subset.size:
                fit = subset.of(fit, self._number, self._whole.seat)
                snapshot = Snapshot.presorted(
                    snapshot.cluster, fit, snapshot.policy, snapshot.service, snapshot.zones
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
                self.disconnects += node.connected
                there = node.endpoint.locality.zone
                self._past[there] = self._past.get(there, 0) + node.picks
                if node.in_flight:
                    self._leaving.add(node)
            self._nodes = nodes
            self._by_label = None
            # What is known of labels that nobody has any more is known of endpoints that have left.
            for labels in [each for each in self._selections if not self.having(each)]:
                del self._selections[labels]
            self.snapshot = snapshot
            before = self._untold
            still = (node for node in before.added if nodes.get(node.endpoint.key) is node)
            change = self._untold = Change((*still, *added), (*before.removed, *removed))
            self._refresh()
            self._untold = Change((), ())
            return change

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
                if self._nodes.get(node.endpoint.key) is not node:
                    return  # it has left, and its connection was counted as gone then
                if connected:
                    self.connects += 1
                else:
                    self.disconnects += 1

    @property
    def candidates(self) -> int:
        """How many nodes the policy chooses from now."""
        return self._candidates

    @property
    def pickable(self) -> bool:
        """Whether ``pick`` would find a node."""
        if self._stale:
            with self._lock:
                self._settle()
                self._refresh()
        return self._candidates > 0

    @property
    def choices(self) -> int:
        """How many nodes ``pick`` chooses from, as counted when it last mattered."""
        return self._candidates

    @property
    def connected(self) -> bool:
        """Whether ``pick`` would find a node that a request can leave for at once."""
        return any(node.usable and node.connected for node in self._nodes.values())

    def pick(self, key: str | None = None, labels: Labels | None = None) -> Pick:
        """Choose a node for one request and count it as in flight there.

        Args:
            key: what a hashing policy goes by: requests of one key go to one endpoint.
            labels: only endpoints with all of these are chosen from. What policies and judges
                learn from such requests is kept for each set of labels, what is in flight is the
                endpoint's.

        Raises:
            NoEndpoints: no endpoint may get a request; the text says why.
        """
        with self._lock:
            if self.ends:
                self._settle()
            if labels:
                return self._pick_among(labels, key)
            if self._stale:
                self._refresh()
            if not self._candidates:
                raise NoEndpoints(self.why_empty())
            now = self._clock()
            try:
                node = self._choose(now, key)
                node.in_flight += 1
            except AttributeError as error:
                raise self._misread(error) from error
            node.picks += 1
            return Pick(self, node, now)

    def _misread(self, error: AttributeError) -> Exception:
        """What to say when a policy of the user's picked what is no node; else what there was to say."""
        if isinstance(error.obj, Node) or error.name not in _READ_OF_A_PICK:
            return error
        return TypeError(
            f"policy {self.policy!r}: pick returned {error.obj!r}; it must return one of the "
            "nodes that update was given last"
        )

    def pick_apart(
        self, avoided: Collection[Node], key: str | None = None, labels: Labels | None = None
    ) -> Pick:
        """Pick for a further attempt: apart from ``avoided``, in another zone if there is one.

        Another zone than theirs is preferred, then another node, then any (``policies.apart``). The
        policy is asked anew while the picks that it must not keep are still in flight, which turns
        policies that count to other nodes, and without the key, which would lead to the same one. If it
        keeps to the wrong ones, one of the right ones is drawn.

        Args:
            avoided: where the request has been; empty: this is ``pick``.
            key: see ``pick``.
            labels: likewise.

        Raises:
            NoEndpoints: no endpoint may get a request.
        """
        with self._lock:
            pick = self.pick(key, labels)
            if not avoided:
                return pick
            wanted = self._elsewhere(avoided, labels)
            if not wanted:
                return pick
            refused: list[Pick] = []
            try:
                while pick.node not in wanted and len(refused) < _REDRAWS:
                    refused.append(pick)
                    pick = self.pick(None, labels)
            finally:  # a strategy of the user's own may raise
                for each in refused:
                    self._withdraw(each)
            if pick.node not in wanted:
                self._withdraw(pick)
                pick = self._claim(less_busy(list(wanted.values()), self._random), labels)
            return pick

    def _elsewhere(
        self, avoided: Collection[Node], labels: Labels | None
    ) -> dict[Node, Node | Selected[Node]]:
        """Whom a further attempt should go to, and as whom the policy knows them; a pick went well."""
        if not labels:
            found = elsewhere(self._stack, self._members, frozenset(avoided))
            return {node: node for node in found}
        selection = self._selections[labels]
        members = selection.members
        # Where the request was may have left meanwhile; its zone still counts.
        been = frozenset(members.get(node, node) for node in avoided)
        chosen = elsewhere(selection.stack, members.values(), been)
        return {selected.node: selected for selected in chosen}

    def _claim(self, chosen: Node | Selected[Node], labels: Labels | None) -> Pick:
        node = chosen.node if isinstance(chosen, Selected) else chosen
        node.in_flight += 1
        node.picks += 1
        if labels and isinstance(chosen, Selected):
            return LabelledPick(self, self._clock(), self._selections[labels], chosen)
        return Pick(self, node, self._clock())

    def withdraw(self, pick: Pick) -> None:
        """The request did not leave for this node, and is not counted there."""
        with self._lock:
            self._withdraw(pick)

    def _withdraw(self, pick: Pick) -> None:
        if pick.open:
            pick.node.picks -= 1
            if isinstance(pick, LabelledPick):
                pick.selection.stack.withdrawn(pick.selected, pick.started)
            else:
                self._stack.withdrawn(pick.node, pick.started)
            self.finish(pick, CANCELLED)

    def _pick_among(self, labels: Labels, key: str | None) -> Pick:
        selection = self._selection(labels)
        if selection is None or not selection.candidates:
            raise NoEndpoints(self.why_empty(labels))
        now = self._clock()
        chosen = selection.pick(now, key)
        chosen.node.in_flight += 1
        chosen.node.picks += 1
        if self._stack.prober is not None:
            self._asking.add(selection)
        return LabelledPick(self, now, selection, chosen)

    def _selection(self, labels: Labels) -> Selection[Node] | None:
        """The endpoints with these labels, up to date; None if no endpoint has them."""
        if self._stale:
            self._refresh()
        selection = self._selections.get(labels)
        if selection is not None and selection.round == self._round:
            return selection
        members = self.having(labels)
        if not members:
            return None
        if selection is None:
            if len(self._selections) >= _MOST_SELECTIONS:
                del self._selections[next(iter(self._selections))]
            stack = Stack(self._config, self._random, self._stack.zone, self._ask)
            stack.base(self._base)
            selection = Selection(stack)
            self._selections[labels] = selection
        fit = Snapshot.presorted(self._cluster, tuple(n.endpoint for n in members)).usable()
        usable = [self._nodes[endpoint.key] for endpoint in fit]
        connected = [node for node in usable if node.connected]
        # What others are preferred to is not being connected: it can be used while it still is.
        selection.update(connected or [n for n in usable if n.usable], self._clock())
        selection.connected = bool(connected)
        selection.round = self._round
        return selection

    def having(self, labels: Labels) -> list[Node]:
        """The nodes whose endpoints have all of these labels."""
        with self._lock:  # an update may come meanwhile, in another thread
            if self._by_label is None:
                found: dict[tuple[str, str], list[Node]] = {}
                for node in self._nodes.values():
                    for pair in node.endpoint.labels:
                        found.setdefault(pair, []).append(node)
                self._by_label = found
            first, *more = sorted((self._by_label.get(pair, []) for pair in labels), key=len)
            return first if not more else [n for n in first if labels.issubset(n.endpoint.labels)]

    def reaches(self, labels: Labels) -> tuple[bool, bool]:
        """Whether ``pick`` would find a node with these labels, and one that is connected."""
        with self._lock:
            self._settle()
            selection = self._selection(labels)
            if selection is None:
                return False, False
            return bool(selection.candidates), selection.connected

    def finish(self, pick: Pick, outcome: Outcome, report: LoadReport | None = None) -> None:
        """End a pick of this balancer; the same as ``pick.finish``."""
        with self._lock:
            if self.ends:
                self._settle()
            self._end(pick, outcome, self._clock(), report)

    def _settle(self) -> None:
        """Count the ``ends``, each as of its time."""
        while self.ends:
            pick, ended, said = self.ends.popleft()
            report: LoadReport | None = None
            if said is not None and self.reads_reports:
                report = said if self._report_of is None else self._report_of(said)
            self._end(pick, SUCCESS, ended, report)

    def _end(self, pick: Pick, outcome: Outcome, now: float, report: LoadReport | None) -> None:
        if not pick.open:  # two threads may both have found it open
            return
        pick.open = False
        node = pick.node
        node.in_flight -= 1
        latency = now - pick.started
        node.seconds += latency
        if outcome is not SUCCESS and outcome in _ERRORS:
            if outcome in _BAD and self._slept_since(pick.started, now):
                outcome = CANCELLED
            else:
                node.errors += 1
        if self._leaving and not node.in_flight:
            self._leaving.discard(node)
        try:
            if type(pick) is Pick:
                self._learn(node, outcome, latency, now, report)
            elif isinstance(pick, LabelledPick):
                pick.selection.done(pick.selected, outcome, latency, now, report)
        except Exception as error:
            if self._tell_raised is None:
                raise
            # The attempt is over whatever the strategy makes of it; and here another request may be choosing.
            first, times = self._raised or (error, 0)
            self._raised = first, times + 1

    def beat(self) -> None:
        """This process is awake. A door that says so every ``BEAT_S`` seconds makes pauses visible.

        What ends badly after a pause of our own (deadlines that passed, connections that servers gave
        up) says nothing of the endpoints, and counts as cancelled.

        Candidates that a strategy raised at are given to it again then, with the next request: the others
        go by what it knows, and a strategy that always raises costs one request a beat.
        """
        if self._untaken:
            self._stale = True
        if self._raised is not None:
            self.say_raised()
        now = self._clock()
        if self._late(now):
            self._woke = now
        self._beat = now

    def say_raised(self) -> None:
        """Tell ``raised`` what it has yet to hear: with a beat, and once more by a door that closes."""
        with self._lock:
            if self._tell_raised is not None:
                self._settle()
            raised, self._raised = self._raised, None
        if raised is not None and self._tell_raised is not None:
            self._tell_raised(self.policy, *raised)

    def _late(self, now: float) -> bool:
        return now - self._beat > BEAT_S + _LATE_S

    def _slept_since(self, then: float, now: float) -> bool:
        return then <= self._woke or self._late(now)

    def take_back(self) -> None:
        """End the picks that finalisers dropped."""
        while self.dropped:
            try:
                pick = self.dropped.popleft()
            except IndexError:  # by another thread, just now
                return
            pick.finish(CANCELLED)

    @property
    def zone(self) -> str:
        """Where this client is: the caller's word, else the control plane's; "" is unknown."""
        return self._stack.zone

    @property
    def zone_picks(self) -> Mapping[str, int]:
        """Requests sent so far, by zone of the endpoint; those that have left are counted on."""
        found = dict(self._past)
        for node in list(self._nodes.values()):
            there = node.endpoint.locality.zone
            found[there] = found.get(there, 0) + node.picks
        return found

    @property
    def zone_crossings(self) -> Mapping[str, int]:
        """The same requests by whether they left this client's zone: see ``ZoneCrossings``."""
        return self._crossings.read(self.zone_picks)

    def take_probes(self) -> list[Node]:
        """Whom to ask for a load report now; answers go to ``probed``."""
        with self._lock:
            prober = self._stack.prober
            wanted = [] if prober is None else cast("list[Node]", prober.take_probes())
            for selection in self._asking:
                wanted += selection.take_probes()
            self._asking.clear()
            return wanted

    def probed(self, node: Node, report: LoadReport) -> None:
        """An endpoint answered a probe."""
        with self._lock:
            self._settle()
            now = self._clock()
            if self._stack.prober is not None:
                self._stack.prober.probed(node, report, now)
            for selection in self._selections.values():
                selection.probed(node, report, now)

    def alive(self, node: Node) -> None:
        """A silent node has given a sign of life."""
        with self._lock:
            self._settle()
            now = self._clock()
            if self._stack.stalls is not None:
                self._stack.stalls.alive(node, now)
            for selection in self._selections.values():
                selection.alive(node, now)

    def is_silent(self, node: Node) -> bool:
        """Whether a node has been found silent, and has not given a sign of life since."""
        with self._lock:
            self._settle()
            stalls = self._stack.stalls
            if stalls is not None and node in stalls.silent:
                return True
            # A copy: whoever asks for states may be in another thread than a loop without a lock.
            return any(each.is_silent(node) for each in list(self._selections.values()))

    def state_of(self, node: Node) -> str:
        """A node's state in one word: ready, connecting, silent, ejected or unused."""
        if not node.usable:
            return "unused"
        if not node.connected:
            return "connecting"
        if self.is_silent(node):
            return "silent"
        with self._lock:
            ejection = self._stack.ejection
            return "ejected" if ejection is not None and node in ejection.ejected else "ready"

    @property
    def cluster(self) -> str:
        """The name it was made with."""
        return self._cluster

    @property
    def policy(self) -> str:
        """The name of the policy in use."""
        return policies.DEFAULT if self._config is None else self._config.name

    def describe(self) -> str:
        """What the policy has to tell people: its tokens, how it splits zones; "" if nothing."""
        with self._lock:
            self._settle()
            return self._stack.describe()

    def cost(self, node: Node) -> str:
        """What the policy would compare a node by now, for people; "" if it has nothing to tell."""
        with self._lock:
            self._settle()
            return self._stack.cost(node, self._clock())

    @property
    def ejections(self) -> int:
        """How often an endpoint was ejected, since the policy or its parameters changed last."""
        with self._lock:
            self._settle()
            # A copy: see ``is_silent``.
            stacks = [self._stack, *(each.stack for each in list(self._selections.values()))]
            return sum(stack.ejection.ejections for stack in stacks if stack.ejection is not None)

    @property
    def age(self) -> float | None:
        """Seconds since the last snapshot came; None: none did."""
        return None if self._updated is None else self._clock() - self._updated

    def _stalled(self, node: policies.Node) -> None:
        if self._tell_stalled is not None:
            self._tell_stalled(node.node if isinstance(node, Selected) else cast("Node", node))

    def _adopt(self, stack: Stack) -> None:
        self._stack = stack
        # Bound once: every request asks both. A stack chooses nothing but the nodes it was given.
        self._choose: Callable[[float, str | None], Node] = stack.pick  # type: ignore[assignment]
        self._learn = stack.done
        self.reads_reports = stack.reads_reports
        self.hash_key = stack.hash_key
        self.probing = stack.prober is not None

    def _follow_policy(self, told: PolicyConfig | None) -> None:
        wanted = told if self._fixed is None or disables(told) else self._fixed
        if wanted == self._config:
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
        self._adopt(stack)
        for selection in self._selections.values():
            selection.follow(wanted)

    def _follow_zones(self, told: ZoneSplit | None) -> None:
        """Take the control plane's word for where this client is, unless the caller said so."""
        zone = self._zone or (told.client_zone if told else "") or self._stack.zone
        self._base = dict(told.base) if told else {}
        if zone != self._stack.zone:
            self._crossings.move(zone, self.zone_picks)
            self._stack.shares.forget()
            self._adopt(Stack(self._config, self._random, zone, self._ask))
            self._selections.clear()
        self._stack.base(self._base)
        for selection in self._selections.values():
            selection.stack.base(self._base)

    def _refresh(self) -> None:
        self._stale = False
        self._untaken = True
        self._round += 1
        usable = [node for node in self._nodes.values() if node.usable]
        connected = [node for node in usable if node.connected]
        candidates = connected or usable
        self._candidates = len(candidates)
        self._members = candidates
        self._stack.outer.update(candidates, self._clock())
        self._untaken = False

    @property
    def told_of_none(self) -> bool:
        """Whether the last snapshot had no endpoint at all, of whatever labels."""
        return self._whole is not None and not self._whole.endpoints

    def why_empty(self, labels: Labels | None = None) -> str:
        """Why a pick finds nothing, in words for the caller."""
        if self.snapshot is None or self._whole is None:
            return f"{self._cluster}: no endpoints received yet"
        endpoints = self.snapshot.endpoints
        if labels and endpoints:
            lacking = missing(labels, endpoints)
            if lacking:
                return f"{self._cluster}: {lacking}"
            endpoints = tuple(e for e in endpoints if labels.issubset(e.labels))
        elif not endpoints and self._whole.endpoints:
            return f"{self._cluster}: {missing(self._labels, self._whole.endpoints)}"
        if not endpoints:
            return f"{self._cluster}: the service has no endpoints"
        counts = Snapshot.presorted(self._cluster, endpoints).counts()
        states = ", ".join(f"{n} {health.value}" for health, n in counts.items() if n)
        said = f" with the labels {in_words(labels)}" if labels else ""
        return f"{self._cluster}: none of {len(endpoints)} endpoints{said} is ready ({states})"

    @property
    def nodes(self) -> Mapping[tuple[str, int], Node]:
        """The nodes of the last snapshot, by address and port."""
        if self.ends:
            with self._lock:
                self._settle()
        return self._nodes

    @property
    def in_flight(self) -> int:
        """Requests in flight, those on nodes that have left included."""
        with self._lock:
            self._settle()
            return sum(n.in_flight for n in self._nodes.values()) + sum(
                n.in_flight for n in self._leaving
            )

    def __repr__(self) -> str:
        counts = self.snapshot.counts() if self.snapshot else {}
        states = ", ".join(f"{counts.get(h, 0)} {h.value}" for h in Health)
        return f"<Balancer {self._cluster}: {states} | {self.in_flight} in flight>"
