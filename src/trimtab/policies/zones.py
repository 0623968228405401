"""Prefer endpoints in the client's own zone, as long as they are not slower for it.

Rules: part ``s`` of the requests stays in the own zone, the rest goes to the others in proportion to
    what they have to spare and how quick they are. Inside a zone the policy chooses.
    Every TICK_S, with r = mean latency here / mean latency in the other zones:
        r <= TOLERANCE:  s grows by GROWTH           there is room: less cross-zone traffic
        r >  TOLERANCE:  s *= sqrt(TOLERANCE / r)     load or a slow zone: spill over
    s stays within PROBE .. 1 - PROBE, so that both sides go on being measured.
    At first s is what the control plane gave as base (``zone_split``), else the own zone's part of all
    capacity, which is what a client without zones would do. What the others have to spare is their base,
    RESERVE of it by capacity, so that all of them are known; without a base it is their capacity.
    When the own zone loses a part of its capacity (pods leave, fall ill or are ejected), s falls by as much as
    its part of all capacity does, at once. When it gains, s follows by GROWTH. What others gain changes nothing.
    A failure counts as PENALTY mean latencies; after ROW failures in a row in the own zone s falls to
    PROBE at once. A zone without endpoints gets nothing at once; one that comes back begins with PROBE.
    A zone where everything is new counts with a part of its capacity that grows to all of it in ``window_s``
    (as one endpoint does in ``policies.slow_start``); unless all zones are new.
    ``strict``: only the own zone, while it has an endpoint.
Sources: the square root and the limits are from our simulations (docs/results/zones.md). Envoy's zone
aware routing and Kubernetes' topology hints go by counts of pods and see neither load nor slowness;
Envoy's load_aware_locality and Linkerd's HAZL need utilization or an absolute latency band.
Weakness: it compares latencies, so a client with few requests (under about 10/s) learns slowly; zones
with very different network delays look slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random

from trimtab.load_report import LoadReport
from trimtab.policies import CANCELLED, Node, Outcome, Policy, cost_of, described
from trimtab.policies.slow_start import LEAST, first_share

TICK_S = 1.0
TOLERANCE = 1.15
GROWTH = 0.05
PROBE = 0.02
PENALTY = 10.0
ROW = 5
RESERVE = 0.1
_MEMORY = 0.7  # of the samples' weight, from tick to tick
_ENOUGH = 5.0  # samples, before a mean counts
_FAILED = frozenset({Outcome.FAILURE, Outcome.UNREACHED, Outcome.TIMEOUT, Outcome.OVERLOADED})


@dataclass(slots=True)
class Zone:
    """One zone's endpoints, and what they showed.

    Attributes:
        policy: chooses inside.
        capacity: sum of the endpoints' weights; 0: there are none.
        samples: answers, older ones counting less.
        seconds: sum of their latencies, likewise.
        row: failures in a row.
        favour: of a zone that isn't ours, relative to its capacity.
        since: when the oldest of its endpoints began [s].
        grown: the part of its capacity that counts; below 1 while everything in it is new.
        picks: requests sent there.
    """

    policy: Policy
    capacity: float = 0.0
    samples: float = 0.0
    seconds: float = 0.0
    row: int = 0
    favour: float = 1.0
    since: float = 0.0
    grown: float = 1.0
    picks: int = 0

    @property
    def latency(self) -> float | None:
        """Mean [s]; None: too few answers."""
        return self.seconds / self.samples if self.samples >= _ENOUGH else None


class Zones:
    """See the module.

    Args:
        make: makes the policy of a zone of that name.
        random: which zone.
        own: the client's zone.
        window_s: how long a zone is new [s]; 0: not at all.
        strict: never leave it while it has an endpoint.

    Attributes:
        base: the part of the requests that goes to each zone before latency moves it, from the next
            update on; empty: by capacity.
    """

    divides_shares = True

    def __init__(
        self,
        make: Callable[[str], Policy],
        random: Random,
        *,
        own: str,
        strict: bool = False,
        window_s: float = 0.0,
    ) -> None:
        self._make = make
        self._random = random.random
        self._own = own
        self._strict = strict
        self._window_s = window_s
        self._zones: dict[str, Zone] = {}
        self.base: Mapping[str, float] = {}
        self._here = self._part = 0.0
        self._stay: float | None = None
        self._order: list[tuple[float, Zone]] = []
        self._last: Zone | None = None
        self._due = 0.0
        self._mean = 0.0
        self._answers = [
            0.0,
            0.0,
        ]  # how many that didn't fail, and their seconds; older ones count less

    @property
    def stay(self) -> float | None:
        """The part of requests that stays in the own zone; None: there is nothing to choose."""
        return self._stay

    def describe(self) -> str:
        """For ``trimtab.debug``: the split, and what the policies of the zones have to tell."""
        told = [] if self._stay is None else [f"{self._stay:.0%} in the own zone"]
        for name, zone in list(self._zones.items()):
            described_so = described(zone.policy)
            if described_so:
                told.append(f"{name or 'unknown'}: {described_so}")
        return ", ".join(told)

    def cost(self, node: Node, now: float) -> str:
        """For ``trimtab.debug``: what the policy of its zone compares it by."""
        zone = self._zones.get(node.endpoint.locality.zone)
        return "" if zone is None else cost_of(zone.policy, node, now)

    @property
    def picks(self) -> dict[str, int]:
        """Requests sent, by zone."""
        return {name: zone.picks for name, zone in self._zones.items()}

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates."""
        parts: dict[str, list[Node]] = {}
        for node in nodes:
            parts.setdefault(node.endpoint.locality.zone, []).append(node)
        own = self._zones.get(self._own)
        # One that never answered is not back from the dead: it is being connected.
        returns = own is not None and not own.capacity and own.samples > 0.0
        for name in parts:
            if name not in self._zones:
                self._zones[name] = Zone(self._make(name))
        for name, zone in self._zones.items():
            members = parts.get(name, [])
            zone.capacity = float(sum(node.endpoint.weight for node in members))
            zone.since = min((node.since for node in members), default=0.0)
            # Where no request goes, a ramp would never end.
            spared = self._strict and self._own in parts and name != self._own
            zone.policy.update([] if spared else members, now)
        total = sum(zone.capacity for zone in self._zones.values())
        here = self._zones[self._own].capacity if self._own in parts else 0.0
        part = here / total if total else 0.0
        kept = here / self._here if self._here else 1.0
        kept = max(kept, part / self._part) if self._part else 1.0
        self._here, self._part = here, part
        if not here or len(parts) == 1:
            self._stay = None
        elif self._strict:
            self._stay = 1.0
        elif self._stay is None:
            # A zone that was dead comes back gently.
            self._stay = PROBE if returns else self._first(part)
        elif not any(zone.samples for zone in self._zones.values()):
            self._stay = self._first(part)  # nothing was learnt yet
        elif kept < 1.0:
            self._stay = max(PROBE, self._stay * kept)
        self._grow(now)
        self._weigh()

    def _first(self, part: float) -> float:
        """Where to begin: the base, with a little to measure both sides by."""
        if not self.base:
            return part
        return min(1.0 - PROBE, max(PROBE, self.base.get(self._own, 0.0)))

    def pick(self, now: float, key: str | None = None) -> Node:
        """The choice of the chosen zone's policy."""
        if now >= self._due:
            self._tick(now)
        if self._order:
            x = self._random()
            for share, zone in self._order:
                x -= share
                if x < 0.0:
                    zone.picks += 1
                    return zone.policy.pick(now, key)
        zone = self._last  # type: ignore[assignment]  # there is one: there are candidates
        zone.picks += 1
        return zone.policy.pick(now, key)

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Measure the zone."""
        name = node.endpoint.locality.zone
        zone = self._zones.get(name)
        if zone is None:
            return
        if outcome in _FAILED:
            zone.samples += 1.0
            zone.seconds += max(latency, PENALTY * self._mean)
            zone.row += 1
            if (
                zone.row == ROW
                and name == self._own
                and self._stay is not None
                and not self._strict
            ):
                self._stay = PROBE
                self._weigh()
        elif outcome is not CANCELLED:
            zone.samples += 1.0
            zone.seconds += latency
            zone.row = 0
            self._answers[0] += 1.0
            self._answers[1] += latency
        zone.policy.done(
            node, outcome, latency, now, report
        )  # last: one of the user's own may raise

    def _tick(self, now: float) -> None:
        self._due = now + TICK_S
        others = [zone for name, zone in self._zones.items() if name != self._own and zone.capacity]
        if others and not self._strict:
            self._steer(others)
        for zone in self._zones.values():
            zone.samples *= _MEMORY
            zone.seconds *= _MEMORY
        # Failures are left out: they cost a multiple of this, and would feed on themselves.
        answers, seconds = self._answers
        if answers:
            self._mean = seconds / answers
            self._answers = [answers * _MEMORY, seconds * _MEMORY]
        self._grow(now)
        self._weigh()

    def _grow(self, now: float) -> None:
        """What part of each zone's capacity counts; call ``_weigh`` next."""
        there = [zone for zone in self._zones.values() if zone.capacity]
        new = [zone for zone in there if now - zone.since < self._window_s]
        for zone in there:
            zone.grown = 1.0
        if not new or self._strict or len(new) == len(there):
            return
        floor = first_share(
            LEAST, sum(zone.capacity for zone in there), sum(zone.capacity for zone in new)
        )
        for zone in new:
            zone.grown = floor + (1.0 - floor) * max(0.0, (now - zone.since) / self._window_s)

    def _steer(self, others: Sequence[Zone]) -> None:
        far = Zone(others[0].policy)
        for zone in others:
            far.samples += zone.samples
            far.seconds += zone.seconds
        there = far.latency
        if not there:
            return
        if self._stay is not None:
            here = self._zones[self._own].latency
            if here is None:
                return
            ratio = here / there
            if ratio <= TOLERANCE:
                self._stay = min(1.0 - PROBE, self._stay + GROWTH)
            else:
                self._stay = max(PROBE, self._stay * sqrt(TOLERANCE / ratio))
        for zone in others:
            latency = zone.latency
            if latency:
                zone.favour = min(4.0, max(0.05, zone.favour * sqrt(there / latency)))

    def _spare(self, capacity: Mapping[str, float]) -> Mapping[str, float]:
        """What each of these zones has to spare, up to a common factor."""
        whole = sum(capacity.values())
        base = sum(self.base.get(name, 0.0) for name in capacity)
        if not base:
            return capacity
        return {
            name: (1.0 - RESERVE) * self.base.get(name, 0.0) / base + RESERVE * part / whole
            for name, part in capacity.items()
        }

    def _weigh(self) -> None:
        """Work out each zone's part of the requests; the last one takes what rounding leaves."""
        there = {name: zone for name, zone in self._zones.items() if zone.capacity}
        own = there.pop(self._own, None) if self._stay is not None else None
        stay = 0.0
        if own is not None and self._stay is not None:
            stay = max(PROBE, self._stay * own.grown)
        rest = 1.0 - stay
        spare = self._spare({name: zone.capacity for name, zone in there.items()})
        parts = [(spare[name] * zone.favour * zone.grown, zone) for name, zone in there.items()]
        total = sum(part for part, _ in parts)
        self._order = [(part / total * rest, zone) for part, zone in parts] if rest else []
        if own is not None:
            self._order.insert(0, (stay, own))
        self._last = self._order[-1][1] if self._order else None
