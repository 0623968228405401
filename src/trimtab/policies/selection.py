"""The endpoints that have certain labels: a policy and judges of their own, the same requests in flight.

A request that wants ``shard=7`` is chosen for among the endpoints with that label, by a stack of the
channel's policy and judges that knows only them: it never ejects the last of them, and "all are new"
means all of them. What is in flight is counted at the endpoint, whoever sent it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, PolicyConfig
from trimtab.policies import Node, Outcome
from trimtab.policies.stack import Stack

Labels = frozenset[tuple[str, str]]
N = TypeVar("N", bound=Node)

_SHOWN = 20  # values of a label in a message


class Selected(Generic[N]):
    """A node in the eyes of one selection: its share there, all else the node's own.

    Attributes:
        node: the balancer's.
        share: see ``policies.Node``.
        asked: likewise.
    """

    __slots__ = ("asked", "node", "share")

    def __init__(self, node: N) -> None:
        self.node = node
        self.share = 1.0
        self.asked: float | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The node's."""
        return self.node.endpoint

    @property
    def in_flight(self) -> int:
        """The node's."""
        return self.node.in_flight

    @property
    def since(self) -> float:
        """The node's."""
        return self.node.since

    @property
    def heard(self) -> bool:
        """The node's."""
        return self.node.heard

    @heard.setter
    def heard(self, heard: bool) -> None:
        self.node.heard = heard


class Selection(Generic[N]):
    """The endpoints with one set of labels.

    Args:
        stack: chooses among them.

    Attributes:
        candidates: how many there are to choose from.
        connected: whether requests can leave for one of them at once.
        round: of the balancer, when it was brought up to date last.
    """

    __slots__ = ("_seen", "candidates", "connected", "round", "stack")

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.candidates = 0
        self.connected = False
        self.round = -1
        self._seen: dict[N, Selected[N]] = {}

    def update(self, nodes: Sequence[N], now: float) -> None:
        """Replace the candidates; what is known of those that stay is kept."""
        self._seen = {node: self._seen.get(node) or Selected(node) for node in nodes}
        self.candidates = len(nodes)
        self.stack.outer.update(list(self._seen.values()), now)

    @property
    def members(self) -> Mapping[N, Selected[N]]:
        """The candidates, as this selection knows them."""
        return self._seen

    def follow(self, config: PolicyConfig | None) -> None:
        """Take another policy, which knows no candidates yet.

        Raises:
            ConfigError: as ``Stack.follow``.
        """
        self.stack = self.stack.follow(config)
        self.round = -1

    def pick(self, now: float, key: str | None) -> Selected[N]:
        """Choose; there are candidates."""
        chosen: Selected[N] = self.stack.pick(now, key)  # type: ignore[assignment]  # as given
        return chosen

    def is_silent(self, node: N) -> bool:
        """Whether a node has been found silent."""
        stalls = self.stack.stalls
        return stalls is not None and self._seen.get(node) in stalls.silent

    def alive(self, node: N, now: float) -> None:
        """A node has shown life, whoever asked it."""
        selected = self._seen.get(node)
        if selected is not None and self.stack.stalls is not None:
            self.stack.stalls.alive(selected, now)

    def take_probes(self) -> list[N]:
        """Whom to ask for a load report now."""
        prober = self.stack.prober
        wanted: list[Selected[N]] = [] if prober is None else prober.take_probes()  # type: ignore[assignment]  # as given
        return [selected.node for selected in wanted]

    def probed(self, node: N, report: LoadReport, now: float) -> None:
        """A node answered a probe, whoever wanted it."""
        selected = self._seen.get(node)
        if selected is not None and self.stack.prober is not None:
            self.stack.prober.probed(selected, report, now)

    def done(
        self,
        chosen: Selected[N],
        outcome: Outcome,
        latency: float,
        now: float,
        report: LoadReport | None,
    ) -> None:
        """Learn from an attempt's end."""
        self.stack.done(chosen, outcome, latency, now, report)


def in_words(labels: Labels) -> str:
    """Labels as they are written elsewhere."""
    return ", ".join(f"{key}={value}" for key, value in sorted(labels))


def missing(labels: Labels, endpoints: Sequence[Endpoint]) -> str:
    """What of these labels no endpoint has, and what there is; "" if one has them all."""
    if any(labels.issubset(endpoint.labels) for endpoint in endpoints):
        return ""
    text = f"none of {len(endpoints)} endpoints has the labels {in_words(labels)}"
    for key, value in sorted(labels):
        known = {v for endpoint in endpoints for k, v in endpoint.labels if k == key}
        if not known:
            names = {k for endpoint in endpoints for k, _ in endpoint.labels}
            return f"{text}; known labels: {_some(names)} (the Service asks for them by annotation)"
        if value not in known:
            return f"{text}; known values of {key}: {_some(known)}"
    return f"{text} together"


def _some(texts: Iterable[str]) -> str:
    known = sorted(texts)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more if known else "none"
