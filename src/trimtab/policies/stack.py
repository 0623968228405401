"""The judges that every policy is wrapped in, made from parameters.

From the outside in: ejection decides who is a candidate; stalls leaves out those that have fallen silent;
error bias says what part of its fair share each should get; slow start sends new ones a few requests; the policy itself
chooses among the rest. Where requests are divided over zones, that stands before slow start, of which each zone has its own.
Parameters, for each policy:

    fallback      host:port that a channel calls while there is no endpoint (``client.fallback``)
    judges        true; false leaves all of them out
    disable       false; true leaves them out too, and goes before a policy that the caller asked for
    eject         true, or false
    eject_s       10: the first time out [s]
    stalls        true; false goes on sending requests to endpoints that have fallen silent
    error_bias    8: the exponent; 0 is off
    slow_start_s  10: the ramp of a new endpoint [s]; 0 is off
    subset_size   0: how many endpoints this client uses (``policies.subset``); 0 is all
    zone          prefer; strict never leaves the own zone while it has an endpoint; off

What the judges know belongs to them, so a change of the policy alone keeps it (``Stack.follow``).

Nearly always no judge has anything to say, and passing a request through all of them would cost more than
the choice itself: after a blocking call has waited, all that is touched is cold. So each tells ``Busy`` when it has, and
while none has, ``Stack.pick`` and ``Stack.done`` go straight to the policy and keep what judges learn of every success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from trimtab import policies
from trimtab.load_report import LoadReport
from trimtab.model import PolicyConfig
from trimtab.policies import SUCCESS, Node, Outcome, Policy, Prober
from trimtab.policies.busy import Busy
from trimtab.policies.ejection import Ejection
from trimtab.policies.error_bias import ErrorBias
from trimtab.policies.gate import Gate
from trimtab.policies.params import Params, Reader
from trimtab.policies.shares import Shares
from trimtab.policies.slow_start import OTHERS_GAIN, SlowStart
from trimtab.policies.stalls import Stalls
from trimtab.policies.subset import NAMES as SUBSET
from trimtab.policies.subset import Subset
from trimtab.policies.zones import Zones

NAMES = (
    "disable",
    "judges",
    "fallback",
    "eject",
    "eject_s",
    "error_bias",
    "slow_start_s",
    "stalls",
    "zone",
)


@dataclass(frozen=True, slots=True)
class Judges:
    """Which judges a policy is wrapped in.

    Attributes:
        eject_s: the first time out [s]; 0: nobody is ejected.
        error_bias: the exponent; 0: none.
        slow_start_s: the ramp [s]; 0: none.
        zone: "prefer", "strict" or "off".
        stalls: whether silent endpoints are left out.
    """

    eject_s: float = 10.0
    error_bias: float = 8.0
    slow_start_s: float = 10.0
    zone: str = "prefer"
    stalls: bool = True

    @classmethod
    def read(cls, policy: str, params: Params) -> Judges:
        """From parameters.

        Raises:
            ConfigError: one is out of range.
        """
        read = Reader(policy, {k: v for k, v in params.items() if k in NAMES})
        on = read.flag("judges", default=True) and not read.flag("disable", default=False)
        eject = read.flag("eject", default=True)
        eject_s = read.number("eject_s", 10.0, 0.001, 3600.0)
        error_bias = read.number("error_bias", 8.0, 0.0, 16.0)
        slow_start_s = read.number("slow_start_s", 10.0, 0.0, 3600.0)
        zone = read.text("zone", "prefer", ("prefer", "strict", "off"))
        stalls = read.flag("stalls", default=True)
        if not on:
            return cls(0.0, 0.0, 0.0, "off", stalls=False)
        return cls(eject_s if eject else 0.0, error_bias, slow_start_s, zone, stalls)


WITHOUT_ZONES = frozenset({"ring_hash", "prequal"})
"""Policies that zones make no difference to: keys and probes choose."""


def zone_mode(config: PolicyConfig | None) -> str:
    """How a service's clients go by zones: "prefer", "strict" or "off".

    Raises:
        ConfigError: a parameter is out of range.
    """
    config = config or PolicyConfig(policies.DEFAULT)
    if config.name in WITHOUT_ZONES:
        return "off"
    return Judges.read(config.name, dict(config.params)).zone


def disables(policy: PolicyConfig | None) -> bool:
    """Whether a service's owner has switched balancing off; that goes before what the caller asked for."""
    return policy is not None and dict(policy.params).get("disable") is True


_SLOW_START = "slow start"


def _slow_start_of(zone: str) -> str:
    return f"{_SLOW_START} in {zone}"


class Stack:
    """A policy with its judges.

    Args:
        config: the policy and its parameters, those of the judges among them; None: the default.
        random: the only source of randomness.
        zone: the client's own; "": unknown.
        stalled: see ``Stalls``.

    Attributes:
        outer: what the balancer asks.
        judges: which there are.
        ejection: who is out; None if nobody is ever ejected.
        stalls: who is silent; None if nobody is ever left out for that.
        prober: the policy, if it wants probes.
        reads_reports: whether load reports of successes make a difference.
        subset: which endpoints are used; None: all.
        zones: who divides the requests over zones; None if nobody does.
        hash_key: the metadata that holds a request's key, "": none; None: the policy wants no key.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range.
    """

    __slots__ = ("_busy", "_chosen", "_innermost", "_policy", "_ramping", "_random", "ejection", "hash_key", "judges", "outer", "prober", "reads_reports", "shares", "stalled", "stalls", "subset", "zone",
                 "zones")  # fmt: skip

    def __init__(
        self,
        config: PolicyConfig | None,
        random: Random,
        zone: str = "",
        stalled: Callable[[Node], None] | None = None,
    ) -> None:
        config = config or PolicyConfig(policies.DEFAULT)
        params = dict(config.params)
        self.judges = Judges.read(config.name, params)
        self.subset = Subset.read(config.name, params)
        self._random = random
        self.zone = zone
        self.stalled = stalled
        self.shares = Shares()
        self.ejection: Ejection | None = None
        self.stalls: Stalls | None = None
        self._ramping: SlowStart | None = None
        self._innermost: ErrorBias | Stalls | Ejection | None = None
        self._busy = busy = Busy()
        self._chosen: Policy
        self.zones: Zones | None = None
        outer = self._choose(config)
        if self.judges.error_bias:
            outer = ErrorBias(
                outer, self.shares, random, exponent=self.judges.error_bias, busy=busy
            )
            self._innermost = outer
        if self.judges.stalls:
            outer = self.stalls = Stalls(outer, stalled, busy=busy)
            self._innermost = self._innermost or outer
        if self.judges.eject_s:
            outer = self.ejection = Ejection(outer, base_s=self.judges.eject_s, busy=busy)
            self._innermost = self._innermost or outer
        self.outer = outer

    def follow(self, config: PolicyConfig | None) -> Stack:
        """The stack for another configuration: this one, if only the policy has to be changed.

        What the judges know is kept then. Whoever calls it gives the candidates to ``outer`` anew.

        Raises:
            ConfigError: as at construction; this stack is as it was.
        """
        config = config or PolicyConfig(policies.DEFAULT)
        if Judges.read(config.name, dict(config.params)) != self.judges:
            made = Stack(config, self._random, self.zone, self.stalled)
            self.shares.forget()
            return made
        subset = Subset.read(config.name, dict(config.params))
        policy = self._choose(config)
        if self._innermost is None:
            self.outer = policy
        else:
            self._innermost.inner = policy
        self.subset = subset
        return self

    def pick(self, now: float, key: str | None = None) -> Node:
        """What ``outer`` picks; straight from the policy while no judge is busy."""
        stalls = self.stalls
        if stalls is None or self._busy.now:
            return self.outer.pick(now, key)
        # What ``Stalls.pick`` does.
        unseen = now - stalls.last - stalls.blink_s
        stalls.last = now
        if unseen > 0.0:
            stalls.asleep += unseen
        node = self._chosen.pick(now, key)
        asked = node.asked
        if asked is None:
            node.asked = now - stalls.asleep
        elif now - stalls.asleep - asked > stalls.least_s:
            return stalls.judged(node, now, key)
        return node

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """What ``outer`` learns; likewise."""
        stalls = self.stalls
        if outcome is not SUCCESS or stalls is None or self._busy.now:
            self.outer.done(node, outcome, latency, now, report)
            return
        # What ``Stalls`` and ``SlowStart`` learn of every success.
        usual = stalls.usual_s
        stalls.usual_s = latency if latency > usual else usual + 0.01 * (latency - usual)
        node.heard = False
        node.asked = None
        ramping = self._ramping
        if ramping is not None:
            mean = ramping.mean
            ramping.mean = mean + OTHERS_GAIN * (latency - mean) if mean else latency
        self._chosen.done(node, outcome, latency, now, report)

    def withdrawn(self, node: Node, picked: float) -> None:
        """No request left for what was picked at that time; ``done`` follows."""
        if self.stalls is not None:
            self.stalls.withdrawn(node, picked)

    def describe(self) -> str:
        """What the policy has to tell people; "" if nothing."""
        return policies.described(self._policy)

    def cost(self, node: Node, now: float) -> str:
        """What the policy would compare a node by; "" if it has nothing to tell."""
        return policies.cost_of(self._policy, node, now)

    def base(self, shares: Mapping[str, float]) -> None:
        """Where requests go before latency moves them, by zone; empty: by capacity.

        Counts from the next update of candidates on.
        """
        if self.zones is not None:
            self.zones.base = shares

    def _choose(self, config: PolicyConfig) -> Policy:
        own = PolicyConfig(
            config.name, tuple(p for p in config.params if p[0] not in NAMES and p[0] not in SUBSET)
        )
        policy = policies.build(own, self._random)
        for zone in self.zones.picks if self.zones is not None else ():
            self._busy.tell(_slow_start_of(zone), busy=False)
        self._policy: Policy
        self.zones = None
        self.hash_key: str | None = getattr(policy, "hash_key", None)
        self.reads_reports = not getattr(policy, "ignores_reports", False)
        self.prober: Prober | None = policy if isinstance(policy, Prober) else None
        if (
            self.zone
            and self.judges.zone != "off"
            and self.prober is None
            and self.hash_key is None
        ):
            self.zones = self._chosen = self._policy = Zones(
                lambda zone: self._ramped(
                    self._gated(policies.build(own, self._random)), _slow_start_of(zone)
                ),
                self._random,
                own=self.zone,
                strict=self.judges.zone == "strict",
                window_s=self.judges.slow_start_s,
            )
            self._ramping = None
            self._busy.tell(_SLOW_START, busy=False)
            return self.zones
        self._policy = policy
        self._chosen = self._gated(policy)
        if self._ramping is not None:
            self._ramping.inner = self._chosen
            return self._ramping
        outer = self._ramped(self._chosen, _SLOW_START)
        self._ramping = outer if isinstance(outer, SlowStart) else None
        return outer

    def _ramped(self, policy: Policy, judge: str) -> Policy:
        if not self.judges.slow_start_s:
            return policy
        return SlowStart(
            policy,
            self._random,
            window_s=self.judges.slow_start_s,
            busy=self._busy,
            judge=judge,
        )

    def _gated(self, policy: Policy) -> Policy:
        if getattr(policy, "divides_shares", False) or not self.judges.error_bias:
            return policy
        return Gate(policy, self._random)
