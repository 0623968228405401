"""The judges that every policy is wrapped in, made from parameters.

From the outside in: ejection decides who is a candidate; error bias says what part of its fair share
each should get; slow start sends new ones a few requests; the policy itself chooses among the rest. Parameters, for each policy:

    judges        true; false leaves all of them out
    eject         true, or false
    eject_s       10: the first time out [s]
    error_bias    8: the exponent; 0 is off
    slow_start_s  10: the ramp of a new endpoint [s]; 0 is off
    subset_size   0: how many endpoints this client uses (``policies.subset``); 0 is all
    zone          prefer; strict never leaves the own zone while it has an endpoint; off

What the judges know belongs to them, so a change of the policy alone keeps it (``Stack.follow``).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from trimtab import policies
from trimtab.model import PolicyConfig
from trimtab.policies import Policy, Prober
from trimtab.policies.ejection import Ejection
from trimtab.policies.error_bias import ErrorBias
from trimtab.policies.gate import Gate
from trimtab.policies.params import Params, Reader
from trimtab.policies.shares import Shares
from trimtab.policies.slow_start import SlowStart
from trimtab.policies.subset import NAMES as SUBSET
from trimtab.policies.subset import Subset
from trimtab.policies.zones import Zones

NAMES = ("judges", "eject", "eject_s", "error_bias", "slow_start_s", "zone")


@dataclass(frozen=True, slots=True)
class Judges:
    """Which judges a policy is wrapped in.

    Attributes:
        eject_s: the first time out [s]; 0: nobody is ejected.
        error_bias: the exponent; 0: none.
        slow_start_s: the ramp [s]; 0: none.
        zone: "prefer", "strict" or "off".
    """

    eject_s: float = 10.0
    error_bias: float = 8.0
    slow_start_s: float = 10.0
    zone: str = "prefer"

    @classmethod
    def read(cls, policy: str, params: Params) -> Judges:
        """From parameters.

        Raises:
            ConfigError: one is out of range.
        """
        read = Reader(policy, {k: v for k, v in params.items() if k in NAMES})
        on = read.flag("judges", default=True)
        eject = read.flag("eject", default=True)
        eject_s = read.number("eject_s", 10.0, 0.001, 3600.0)
        error_bias = read.number("error_bias", 8.0, 0.0, 16.0)
        slow_start_s = read.number("slow_start_s", 10.0, 0.0, 3600.0)
        zone = read.text("zone", "prefer", ("prefer", "strict", "off"))
        if not on:
            return cls(0.0, 0.0, 0.0, "off")
        return cls(eject_s if eject else 0.0, error_bias, slow_start_s, zone)


class Stack:
    """A policy with its judges.

    Args:
        config: the policy and its parameters, those of the judges among them; None: the default.
        random: the only source of randomness.
        zone: the client's own; "": unknown.

    Attributes:
        outer: what the balancer asks.
        judges: which there are.
        ejection: who is out; None if nobody is ever ejected.
        prober: the policy, if it wants probes.
        reads_reports: whether load reports of successes make a difference.
        subset: which endpoints are used; None: all.
        hash_key: the metadata that holds a request's key, "": none; None: the policy wants no key.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range.
    """

    __slots__ = ("_innermost", "_random", "ejection", "hash_key", "judges", "outer", "prober", "reads_reports",
                 "shares", "subset", "zone")  # fmt: skip

    def __init__(self, config: PolicyConfig | None, random: Random, zone: str = "") -> None:
        config = config or PolicyConfig(policies.DEFAULT)
        params = dict(config.params)
        self.judges = Judges.read(config.name, params)
        self.subset = Subset.read(config.name, params)
        self._random = random
        self.zone = zone
        self.shares = Shares()
        self.ejection: Ejection | None = None
        outer = self._chosen(config)
        self._innermost: SlowStart | ErrorBias | Ejection | None = None
        if self.judges.slow_start_s:
            outer = SlowStart(outer, self._random, window_s=self.judges.slow_start_s)
            self._innermost = outer
        if self.judges.error_bias:
            outer = ErrorBias(outer, self.shares, exponent=self.judges.error_bias)
            self._innermost = self._innermost or outer
        if self.judges.eject_s:
            outer = self.ejection = Ejection(outer, base_s=self.judges.eject_s)
            self._innermost = self._innermost or outer
        self.outer = outer

    def follow(self, config: PolicyConfig | None) -> Stack:
        """The stack for another configuration: this one, if only the policy has to be changed.

        What the judges know is kept then. Whoever calls it gives the candidates to ``outer`` anew.

        Raises:
            ConfigError: as at construction; this stack is as it was.
        """
        config = config or PolicyConfig(policies.DEFAULT)
        if Judges.read(config.name, dict(config.params)) != self.judges or self._innermost is None:
            made = Stack(config, self._random, self.zone)
            self.shares.forget()
            return made
        subset = Subset.read(config.name, dict(config.params))
        self._innermost.inner = self._chosen(config)
        self.subset = subset
        return self

    def _chosen(self, config: PolicyConfig) -> Policy:
        own = PolicyConfig(
            config.name, tuple(p for p in config.params if p[0] not in NAMES and p[0] not in SUBSET)
        )
        policy = policies.build(own, self._random)
        self.hash_key: str | None = getattr(policy, "hash_key", None)
        self.reads_reports = not getattr(policy, "ignores_reports", False)
        self.prober: Prober | None = policy if isinstance(policy, Prober) else None
        if (
            self.zone
            and self.judges.zone != "off"
            and self.prober is None
            and self.hash_key is None
        ):
            return Zones(
                lambda: self._gated(policies.build(own, self._random)),
                self._random,
                own=self.zone,
                strict=self.judges.zone == "strict",
            )
        return self._gated(policy)

    def _gated(self, policy: Policy) -> Policy:
        if getattr(policy, "divides_shares", False) or not self.judges.error_bias:
            return policy
        return Gate(policy, self._random)
