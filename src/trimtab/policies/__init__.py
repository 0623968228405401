"""Strategies: which endpoint gets the next request.

A policy is pure: no await, no clock, no socket, no global random. ``now`` [s, monotonic] and a
``random.Random`` are handed in. To add one, write ``policies/mine.py`` with a factory under
``@register("mine")``, or, outside this package, an entry point in the group ``trimtab.policies``;
``trimtab.testing.policy_contract`` then runs over it.
"""

from __future__ import annotations

import enum
import importlib.metadata
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol, runtime_checkable

from trimtab.errors import ConfigError
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, PolicyConfig
from trimtab.policies.params import Params

DEFAULT = "token"
_BUILT_IN = (
    "p2c",
    "p2c_ewma",
    "prequal",
    "random_pick",
    "ring_hash",
    "round_robin",
    "token",
    "weighted_round_robin",
)


class Outcome(enum.Enum):
    """How an attempt ended, as a policy sees it.

    SUCCESS: the application answered well. ANSWERED: it answered with an error of the caller's
    making (NOT_FOUND and the like). FAILURE: the endpoint failed. OVERLOADED: it refused since it
    has too much to do (RESOURCE_EXHAUSTED, 429). TIMEOUT: the deadline passed. CANCELLED: the
    caller lost interest, which says nothing of the endpoint. UNREACHED: no connection came about, which
    is a failure that the endpoint knows nothing of.
    """

    SUCCESS = "success"
    ANSWERED = "answered"
    FAILURE = "failure"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    UNREACHED = "unreached"

    # Members are compared by identity; the hash of Enum is a Python function, called several times
    # for every request.
    __hash__ = object.__hash__


SUCCESS, CANCELLED = Outcome.SUCCESS, Outcome.CANCELLED
"""The two that every request meets: to ask the class for a member costs more than a function call."""


class Node(Protocol):
    """What a policy may know of an endpoint: the balancer owns it and keeps it while it stays.

    Attributes:
        share: the part of its fair share that it should get now, above 0 and up to 1: the product
            of what error bias and the like say (``policies.shares``).
        heard: whether part of an answer came from it since ``stalls`` last looked.
        asked: when the first request went there that nothing has been heard of, and since which nothing
            has; ``stalls`` keeps it, in its own time [s]. None: there is none.
    """

    share: float
    heard: bool
    asked: float | None

    @property
    def endpoint(self) -> Endpoint:
        """Address, weight, locality, labels."""

    @property
    def in_flight(self) -> int:
        """Requests of this client that are at the endpoint now."""

    @property
    def since(self) -> float:
        """When it began to serve, or was first seen [s, the balancer's clock]; -inf: long ago."""


class Policy(Protocol):
    """A strategy. The balancer calls it under its lock, so it needs none of its own.

    One that takes ``node.share`` into account says so by a class attribute ``divides_shares = True``;
    what others choose is admitted with the probability of the share (``policies.gate``). One that has
    no use for load reports says ``ignores_reports = True``, which makes blocking calls cheaper. One that
    goes by keys has an attribute ``hash_key``: the metadata that holds them, or "". One that has
    something to tell people (``trimtab.debug``) has a method ``describe() -> str``; one that compares
    endpoints, ``cost(node, now) -> str``: what it would compare a candidate by now, "" if nothing is known.
    """

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates. Nodes that stay are the same objects; may be empty."""

    def pick(self, now: float, key: str | None = None) -> Node:
        """Choose one of the last candidates, of which there is at least one. Never blocks.

        ``key`` is what a hashing policy goes by: requests of one key go to one endpoint.
        """

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Learn from an attempt's end. ``latency`` in seconds; the node may have left meanwhile."""


def cost_of(policy: Policy, node: Node, now: float) -> str:
    """What a policy would compare a candidate by; "" if it has nothing to tell."""
    cost = getattr(policy, "cost", None)
    return "" if cost is None else str(cost(node, now))


def described(policy: Policy) -> str:
    """What a policy has to tell people; "" if nothing."""
    describe = getattr(policy, "describe", None)
    return "" if describe is None else str(describe())


@runtime_checkable
class Prober(Protocol):
    """A policy that wants endpoints to be asked for their load apart from requests."""

    def take_probes(self) -> list[Node]:
        """Whom to ask now; each is named once. Called after every pick."""

    def probed(self, node: Node, report: LoadReport, now: float) -> None:
        """An answer came; what can't be had is not told."""


Factory = Callable[[Params, Random], Policy]
_METHODS = ("update", "pick", "done")
_registry: dict[str, Factory] = {}


def register(name: str) -> Callable[[Factory], Factory]:
    """Decorate a factory ``(params, random) -> Policy`` to make it known as ``name``.

    Raises:
        ConfigError: another factory has the name.
    """

    def keep(factory: Factory) -> Factory:
        if not getattr(factory, "__module__", "").startswith(f"{__name__}."):
            _load_built_in()  # or a stranger could take the name of one that comes later
        if name in _registry and _registry[name] is not factory:
            raise ConfigError(f"policy {name!r} is registered twice; choose another name")
        _registry[name] = factory
        return factory

    return keep


def _load_built_in() -> None:
    for module in _BUILT_IN:
        importlib.import_module(f"trimtab.policies.{module}")


def _load_all() -> dict[str, Factory]:
    _load_built_in()
    for entry in importlib.metadata.entry_points(group="trimtab.policies"):
        if entry.name not in _registry:
            _registry[entry.name] = entry.load()
    return _registry


def names() -> list[str]:
    """All registered policies, sorted."""
    return sorted(_load_all())


def build(config: PolicyConfig | None, random: Random) -> Policy:
    """Make a policy from its configuration; None means the default.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range, or the factory raised, or what it
            made is no policy.
    """
    if config is None:
        config = PolicyConfig(DEFAULT)
    factory = _registry.get(config.name) or _load_all().get(config.name)
    if factory is None:
        raise ConfigError(f"policy {config.name!r} is unknown; known are {', '.join(names())}")
    try:
        policy = factory(dict(config.params), random)
    except ConfigError:
        raise
    except Exception as error:  # a user's own
        raise ConfigError(
            f"policy {config.name!r}: its factory raised {error!r} for the parameters {dict(config.params)}; "
            "correct them, or have it raise trimtab's ConfigError, which says how"
        ) from error
    missing = [name for name in _METHODS if not callable(getattr(policy, name, None))]
    if missing:
        raise ConfigError(
            f"policy {config.name!r}: its factory gave {type(policy).__name__}, which lacks the method "
            f"{' and '.join(missing)}; trimtab.policies.Policy says what each does"
        )
    return policy
