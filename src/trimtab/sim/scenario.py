"""A scenario: what is simulated, as its file says it. Times in seconds unless a key says otherwise.

``docs/reference/scenarios.md`` lists every key; a test compares it with these classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from trimtab.errors import ConfigError
from trimtab.model import PolicyConfig
from trimtab.policies.stack import Stack
from trimtab.sim.happenings import Event, LoadChanged, read_events
from trimtab.sim.reading import Place, key, read
from trimtab.sim.traces import read_trace

MAX_PODS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """Processes that send requests, each with a balancer of its own."""

    count: int | None = key("how many, without zones", None, low=1, high=MAX_PODS)
    zones: Mapping[str, int] = key("how many in each zone", dict, low=1, high=MAX_PODS)
    rates: tuple[float, ...] = key(
        "how much each sends relative to others; the clients take the numbers in turn",
        (1.0,),
        low=0.0,
        above=True,
    )
    zone_rates: Mapping[str, float] = key(
        "how much each client of a zone sends relative to others", dict, low=0.0, above=True
    )

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """Count or zones; rates for known zones."""
        yield from _count_or_zones(self.count, self.zones)
        yield from _known_zones("zone_rates", self.zone_rates, self.zones)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The pods that serve."""

    count: int | None = key("how many, without zones", None, low=1, high=MAX_PODS)
    zones: Mapping[str, int] = key("how many in each zone", dict, low=1, high=MAX_PODS)
    workers: int = key("requests that one serves at once; its processors", 4, low=1, high=10_000)
    discipline: str = key(
        "fifo: further requests wait for a worker; sharing: all share the processors",
        "fifo",
        choices=("fifo", "sharing"),
    )
    speed: tuple[float, ...] = key(
        "their speeds; 0.5 takes twice as long; the pods take the numbers in turn",
        (1.0,),
        low=0.0,
        above=True,
    )
    zone_speed: Mapping[str, float] = key(
        "the speed of a zone's pods, times their own", dict, low=0.0, above=True
    )
    cold_requests: int = key("so many first requests of a new pod are slower", 0, low=0)
    cold_slow: float = key("service times of these are multiplied by this", 5.0, low=1.0)

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """Count or zones; speeds for known zones."""
        yield from _count_or_zones(self.count, self.zones)
        yield from _known_zones("zone_speed", self.zone_speed, self.zones)

    @property
    def total(self) -> int:
        """How many there are at first."""
        return self.count or sum(self.zones.values())

    def capacity(self) -> float:
        """Worker-seconds of service that all give in a second."""
        slots = zip(self.placed(), range(self.total), strict=True)
        return self.workers * sum(
            self.zone_speed.get(zone, 1.0) * self.speed[i % len(self.speed)] for zone, i in slots
        )

    def placed(self) -> list[str]:
        """The zone of each."""
        return places(self.count, self.zones)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many requests come, and whether callers wait for answers."""

    loop: str = key(
        "open: requests come at a rate, at random; closed: callers wait for their answers",
        "open",
        choices=("open", "closed"),
    )
    rho: float | None = key(
        "open: the rate, as a part of what all pods can do at first", None, low=0.0, above=True
    )
    rate: float | None = key("open: requests/s of all clients", None, low=0.0, above=True)
    arrivals: str | None = key(
        "open: a trace whose gaps between requests are used, scaled to the rate; CSV or JSONL",
        None,
    )
    callers: int | None = key("closed: callers in each client", None, low=1)
    think_ms: float = key("closed: mean time between an answer and the next call [ms]", 0.0, low=0)

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """Each loop has its own keys."""
        if self.loop == "open":
            if (self.rho is None) == (self.rate is None):
                yield "rho", self.rho, "an open loop needs either rho or rate"
            if self.callers is not None:
                yield "callers", self.callers, "is for loop: closed"
        else:
            if self.callers is None:
                yield "callers", None, "a closed loop needs the number of callers in each client"
            if (self.rho, self.rate, self.arrivals) != (None, None, None):
                yield "loop", self.loop, "rho, rate and arrivals are for loop: open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """How long a request occupies a worker of a pod with speed 1."""

    shape: str = key(
        "how service times are spread",
        "exponential",
        choices=("exponential", "constant", "lognormal", "bimodal", "trace"),
    )
    mean_ms: float | None = key("their mean [ms]; trace: scaled to it", None, low=0.0, above=True)
    sigma: float = key("lognormal: sigma of the logarithm; 1 gives p99 of 6.2 means", 1.0, low=0.0)
    slow_part: float = key("bimodal: the part of slow requests", 0.05, low=0.0, high=1.0)
    slow_factor: float = key("bimodal: so many times as long", 10.0, low=1.0)
    file: str | None = key("trace: the file, CSV or JSONL, relative to this one", None)
    samples_ms: tuple[float, ...] = key("trace: service times in place of a file [ms]", (), low=0.0)

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """Times for a trace, a mean for the rest."""
        if (self.file is not None) + bool(self.samples_ms) != (self.shape == "trace"):
            fix = "shape: trace needs either a file or samples_ms, and nothing else does"
            yield "file", self.file, fix
        if self.samples_ms and not sum(self.samples_ms):
            yield "samples_ms", list(self.samples_ms), "all are 0"
        if self.shape != "trace" and self.mean_ms is None:
            yield "mean_ms", None, "give the mean service time in milliseconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How long a message takes, one way."""

    within_zone_ms: float = key("inside a zone [ms]", 0.25, low=0.0)
    between_zones_ms: float = key("from one zone to another [ms]", 0.75, low=0.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy to compare.

    Attributes:
        label: its row's name.
        config: what each client's balancer is given.
    """

    label: str
    config: PolicyConfig

    @classmethod
    def named(cls, name: str, **params: str | float | bool) -> Choice:
        """With parameters, those of the judges included."""
        return cls(name, PolicyConfig.of(name, **params))


def read_choices(raw: Any, place: Place) -> tuple[Choice, ...]:
    """The list under ``policies``: names, or mappings with name, label and parameters.

    Raises:
        ConfigError: a name or a parameter is unknown, or a label stands twice.
    """
    if not isinstance(raw, list) or not raw:
        raise place.error(raw, "is no list of policies, such as [p2c, {name: token, size: 8}]")
    found: dict[str, Choice] = {}
    for i, one in enumerate(raw):
        here = place.at(i)
        given = {"name": one} if isinstance(one, str) else one
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise here.error(one, "is no policy, such as p2c or {name: token, size: 8}")
        params = {k: v for k, v in given.items() if k not in {"name", "label"}}
        for name, value in params.items():
            if not isinstance(name, str) or not isinstance(value, str | int | float | bool):
                raise here.at(str(name)).error(value, "a parameter is a number, a text or a flag")
        label = given.get("label", _label(given["name"], params))
        if not isinstance(label, str) or label in found:
            raise here.at("label").error(label, "each policy needs a label of its own")
        choice = Choice(label, PolicyConfig.of(given["name"], **params))
        check_policy(choice, here)
        found[label] = choice
    return tuple(found.values())


def check_policy(choice: Choice, place: Place) -> None:
    """Build it once.

    Raises:
        ConfigError: its name or a parameter is unknown or out of range.
    """
    try:
        Stack(choice.config, Random(0))
    except ConfigError as error:
        raise ConfigError(f"{place.file}: {place.path}: {error}") from None


def _label(name: str, params: Mapping[str, object]) -> str:
    shown = ", ".join(
        f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in params.items()
    )
    return f"{name} ({shown})" if shown else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All of it."""

    title: str = key("what it shows, in a sentence")
    clients: Clients = key("who sends")
    servers: Servers = key("who serves")
    load: Load = key("how much")
    service: Service = key("how long a request takes")
    network: Network = key("how long a message takes", Network())
    events: tuple[Event, ...] = key("what happens", (), read=read_events)
    policies: tuple[Choice, ...] = key("what is compared", read=read_choices)
    bounds: bool = key("add random choice and global knowledge as rows", True)
    seeds: tuple[int, ...] = key("one run for each; figures are their means", (1, 2), low=0)
    requests: int | None = key(
        "requests of a run, the warm-up's included", None, low=1, high=100_000_000
    )
    seconds: float | None = key(
        "the length of a run [s], the warm-up included", None, low=0.0, above=True
    )
    warmup_s: float | None = key(
        "left out of the figures [s]; without it: a fifth of the run", None, low=0.0
    )

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """Its length; zones of events; nothing happens after the end."""
        if (self.requests is None) == (self.seconds is None):
            yield "seconds", self.seconds, "give either requests or seconds"
        if self.load.loop == "closed" and self.seconds is None:
            yield "requests", self.requests, "a closed loop needs seconds"
        if len(set(self.seeds)) < len(self.seeds):
            yield "seeds", list(self.seeds), "a seed stands twice"
        if self.warmup_s is not None and self.warmup_s >= self.length_s():
            fix = f"the run lasts {self.length_s():g} s only; the warm-up must be shorter"
            yield "warmup_s", self.warmup_s, fix
        for i, event in enumerate(self.events):
            zone = getattr(event, "zone", None)
            if zone is not None and zone not in self.servers.zones:
                known = ", ".join(self.servers.zones) or "none"
                yield f"events[{i}].zone", zone, f"the servers have no such zone; known: {known}"
            if event.at_s >= self.length_s():
                fix = f"the run ends at {self.length_s():.3g} s; make it longer"
                yield f"events[{i}].at_s", event.at_s, fix
            if isinstance(event, LoadChanged) and self.load.loop == "closed":
                yield f"events[{i}].kind", "load", "is for loop: open"

    def mean_s(self) -> float:
        """The mean service time [s]; a trace without one is given its own when it is read."""
        samples = self.service.samples_ms
        own_ms = math.fsum(samples) / len(samples) if samples else 0.0
        return (self.service.mean_ms or own_ms) / 1000.0

    def rate(self) -> float:
        """Requests/s of an open loop at first; 0 for a closed one."""
        if self.load.rho is not None:
            return self.load.rho * self.servers.capacity() / self.mean_s()
        return self.load.rate or 0.0

    def length_s(self) -> float:
        """How long a run lasts [s]."""
        if self.seconds is not None:
            return self.seconds
        return (self.requests or 0) / self.rate() if self.rate() else math.inf

    def measured_from_s(self) -> float:
        """When the warm-up ends [s]."""
        return self.length_s() / 5.0 if self.warmup_s is None else self.warmup_s


def load_scenario(path: Path) -> Scenario:
    """Read and check a file.

    Raises:
        ConfigError: naming file, path, bad value and fix.
    """
    from trimtab.control.config import read_yaml  # noqa: PLC0415 - PyYAML belongs to an extra

    content = read_yaml(path, "a scenario is a YAML file, or a name that --list shows")
    return read_scenario(content, path)


def read_scenario(content: Any, path: Path) -> Scenario:
    """Check what a file contains.

    Raises:
        ConfigError: as ``load_scenario``.
    """
    place = Place(str(path))
    content = _with_traces(content, path)
    return read(Scenario, content, place)


def _with_traces(content: Any, path: Path) -> Any:
    """Find the files of traces beside the scenario's; capacities need a trace's mean."""
    if not isinstance(content, dict):
        return content
    service, load = content.get("service"), content.get("load")
    if isinstance(service, dict) and isinstance(service.get("file"), str):
        full = str(path.parent / service["file"])
        mean_ms = service.get("mean_ms") or 1000.0 * read_trace(Path(full)).mean_s
        content = content | {"service": service | {"file": full, "mean_ms": mean_ms}}
    if isinstance(load, dict) and isinstance(load.get("arrivals"), str):
        full = str(path.parent / load["arrivals"])
        if not read_trace(Path(full)).rate:
            where = Place(str(path), "load.arrivals")
            raise where.error(load["arrivals"], "the trace says no times, or one and the same")
        content = content | {"load": load | {"arrivals": full}}
    return content


def places(count: int | None, zones: Mapping[str, int]) -> list[str]:
    """A zone for each of so many; "" where there are no zones. The zones take turns."""
    if count is not None:
        return [""] * count
    # In turn, so that numbers which repeat over all of them do not fall on one zone.
    slots = [((i + 0.5) / n, zone) for zone, n in zones.items() for i in range(n)]
    return [zone for _, zone in sorted(slots)]


def _count_or_zones(
    count: int | None, zones: Mapping[str, int]
) -> Iterator[tuple[str, object, str]]:
    if (count is None) == (not zones):
        yield "count", count, "give either count or zones"


def _known_zones(
    name: str, given: Mapping[str, float], zones: Mapping[str, int]
) -> Iterator[tuple[str, object, str]]:
    for zone, value in given.items():
        if zone not in zones:
            yield f"{name}.{zone}", value, f"no such zone; known: {', '.join(zones) or 'none'}"
