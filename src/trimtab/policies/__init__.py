"""Strategies: which endpoint gets the next request.

A policy is pure: no await, no clock, no socket, no global random. ``now`` [s, monotonic] and a
``random.Random`` are handed in. To add one, write ``policies/mine.py`` with a factory under
``@register("mine")``, or, outside this package, an entry point in the group ``trimtab.policies``;
``tests/policies/contract.py`` then runs over it.
"""

from __future__ import annotations

import enum
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol

from trimtab.errors import ConfigError
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, PolicyConfig

DEFAULT = "p2c"
_BUILT_IN = ("p2c", "random_pick", "round_robin")


class Outcome(enum.Enum):
    """How an attempt ended, as a policy sees it.

    SUCCESS: the application answered well. ANSWERED: it answered with an error of the caller's
    making (NOT_FOUND and the like). FAILURE: the endpoint failed. TIMEOUT: the deadline passed.
    CANCELLED: the caller lost interest, which says nothing of the endpoint.
    """

    SUCCESS = "success"
    ANSWERED = "answered"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


class Node(Protocol):
    """What a policy may know of an endpoint: the balancer owns it and keeps it while it stays."""

    @property
    def endpoint(self) -> Endpoint:
        """Address, weight, locality, labels."""

    @property
    def in_flight(self) -> int:
        """Requests of this client that are at the endpoint now."""


class Policy(Protocol):
    """A strategy. The balancer calls it under its lock, so it needs none of its own."""

    def update(self, nodes: Sequence[Node], now: float) -> None:
        """Replace the candidates. Nodes that stay are the same objects; may be empty."""

    def pick(self, now: float) -> Node:
        """Choose one of the last candidates, of which there is at least one. Never blocks."""

    def done(
        self, node: Node, outcome: Outcome, latency: float, now: float, report: LoadReport | None
    ) -> None:
        """Learn from an attempt's end. ``latency`` in seconds; the node may have left meanwhile."""


Params = Mapping[str, str | float | bool]
Factory = Callable[[Params, Random], Policy]
_registry: dict[str, Factory] = {}


def register(name: str) -> Callable[[Factory], Factory]:
    """Decorate a factory ``(params, random) -> Policy`` to make it known as ``name``."""

    def keep(factory: Factory) -> Factory:
        if name in _registry and _registry[name] is not factory:
            raise ConfigError(f"policy {name!r} is registered twice; choose another name")
        _registry[name] = factory
        return factory

    return keep


def _load_all() -> dict[str, Factory]:
    for module in _BUILT_IN:
        importlib.import_module(f"trimtab.policies.{module}")
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
        ConfigError: the name or a parameter is unknown or out of range.
    """
    if config is None:
        config = PolicyConfig(DEFAULT)
    factory = _registry.get(config.name) or _load_all().get(config.name)
    if factory is None:
        raise ConfigError(f"policy {config.name!r} is unknown; known are {', '.join(names())}")
    return factory(dict(config.params), random)


def refuse_params(policy: str, params: Params) -> None:
    """For policies without parameters: name the first one that was given anyway.

    Raises:
        ConfigError: there is one.
    """
    for key, value in params.items():
        raise ConfigError(f"policy {policy}: parameter {key}={value!r} is unknown; it takes none")
