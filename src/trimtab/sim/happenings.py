"""What may happen in a scenario, as its file says it. ``events`` makes it happen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trimtab.sim.reading import Place, key, read

_AT = "when it happens [s]; the clock starts with the warm-up"
_FOR = "how long it lasts [s]; without it: to the end"
_TOLD = "after so long clients no longer know the pods [s], as an EndpointSlice would tell them"


def at_s(default: float | None = None) -> float:
    """The key that all have."""
    found: float = key(_AT, low=0.0) if default is None else key(_AT, default, low=0.0)
    return found


def for_s() -> float | None:
    """The key of what passes."""
    found: float | None = key(_FOR, None, low=0.0, above=True)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which pods: so many, or a part of them, drawn by the seed; of one zone or of all."""

    pods: int | None = key("how many pods, drawn by the seed", None, low=1)
    part: float | None = key("which part of the pods, drawn by the seed", None, low=0.0, high=1.0)
    zone: str | None = key("only pods of this zone; alone: all of them", None)

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """Which pods must be clear."""
        if self.pods is not None and self.part is not None:
            yield "part", self.part, "give either pods or part"
        if self.pods is None and self.part is None and self.zone is None:
            yield "pods", None, "say which pods: pods, part or zone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed(Chosen):
    """Pods become slower or quicker."""

    at_s: float = at_s()
    for_s: float | None = for_s()
    speed: float = key("their speed; 0.5 takes twice as long, 1 is normal", low=0.0, above=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Antagonist(Chosen):
    """Something that uses up the pods' machines, and moves: others are slower each time."""

    at_s: float = at_s(0.0)
    for_s: float | None = for_s()
    every_s: float = key("how long it stays with the same pods [s]", 1.0, low=0.0, above=True)
    slow: float = key("service times there are multiplied by this", 2.0, low=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing(Chosen):
    """Requests to pods fail."""

    at_s: float = at_s()
    for_s: float | None = for_s()
    failures: float = key("the part of their requests that fails", 1.0, low=0.0, high=1.0)
    after_ms: float = key(
        "how long a failure takes [ms]; it occupies no worker", 0.5, low=0.0, above=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone(Chosen):
    """Pods are gone without a word: what is there and what comes fails."""

    at_s: float = at_s()
    for_s: float | None = for_s()
    told_after_s: float = key(_TOLD, 1.0, low=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted(Chosen):
    """Pods are replaced by new ones at once; cold, if the servers say so."""

    at_s: float = at_s()


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """New pods; cold, if the servers say so."""

    at_s: float = at_s()
    pods: int = key("how many", low=1, high=10_000)
    zone: str | None = key("where", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed(Chosen):
    """Pods leave in order: clients are told, what is there is finished."""

    at_s: float = at_s()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """All pods are replaced, some at a time: new ones come first, then as many old ones leave."""

    at_s: float = at_s()
    pods: int = key("how many at a time", 1, low=1, high=10_000)
    every_s: float = key("from one step to the next [s]", 1.0, low=0.0, above=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """Adds and removes pods so that the mean utilisation stays near a target.

    Every ``every_s`` it wants ceil(pods x utilisation / target) pods; within 10 % of the target it
    does nothing (Kubernetes' HorizontalPodAutoscaler has the same formula and tolerance).
    """

    at_s: float = at_s(0.0)
    every_s: float = key("how often it looks [s]", 15.0, low=0.0, above=True)
    target: float = key("the utilisation that it wants", 0.7, low=0.0, above=True, high=1.0)
    least: int = key("pods at least", 1, low=1)
    most: int = key("pods at most", 1000, low=1, high=10_000)
    start_s: float = key("how long a new pod takes until it is ready [s]", 5.0, low=0.0)

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """The limits must leave something."""
        if self.most < self.least:
            yield "most", self.most, f"is less than least, {self.least}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadChanged:
    """Requests come more or less often."""

    at_s: float = at_s()
    for_s: float | None = for_s()
    factor: float = key("so many times as often as at first", low=0.0, above=True)


Event = (
    Speed
    | Antagonist
    | Failing
    | Gone
    | Restarted
    | Added
    | Removed
    | Rollout
    | Autoscaler
    | LoadChanged
)
KINDS: dict[str, type[Event]] = {
    "speed": Speed,
    "antagonist": Antagonist,
    "failing": Failing,
    "gone": Gone,
    "restart": Restarted,
    "add": Added,
    "remove": Removed,
    "rollout": Rollout,
    "autoscaler": Autoscaler,
    "load": LoadChanged,
}


def read_events(raw: object, place: Place) -> tuple[Event, ...]:
    """The list under ``events``.

    Raises:
        ConfigError: one is not as described.
    """
    if not isinstance(raw, list):
        raise place.error(raw, "is no list of events, such as [{kind: gone, at_s: 5, pods: 1}]")
    found: list[Event] = []
    for i, one in enumerate(raw):
        here = place.at(i)
        kind = one.get("kind") if isinstance(one, dict) else None
        known = KINDS.get(kind) if isinstance(kind, str) else None
        if known is None:
            raise here.at("kind").error(kind, f"is none of {', '.join(KINDS)}")
        found.append(read(known, {k: v for k, v in one.items() if k != "kind"}, here))
    return tuple(found)
