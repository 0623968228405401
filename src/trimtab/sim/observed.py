"""A scenario out of what a running system shows: a trace, or its metrics."""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from trimtab.errors import ConfigError
from trimtab.sim.prometheus import Histogram, read_histogram
from trimtab.sim.scenario import Choice, Clients, Load, Scenario, Servers, Service
from trimtab.sim.traces import read_trace

CLIENTS = 20
UTILISATION = 0.7  # of workers whose number nobody told
POLICIES = ("round_robin", "p2c", "token")
_TIMEOUT_S = 10.0
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the caller adds to it; None: unknown.

    Attributes:
        rate: requests/s of all clients.
        clients: how many.
        pods: how many.
        workers: requests that a pod serves at once.
    """

    rate: float | None = None
    clients: int | None = None
    pods: int | None = None
    workers: int | None = None


def from_trace(path: Path, known: Known, base: Scenario | None) -> Scenario:
    """Service times and arrivals of a trace.

    Raises:
        ConfigError: it can't be read, or does not tell enough.
    """
    trace = read_trace(path)
    service = Service(shape="trace", mean_ms=1000.0 * trace.mean_s, file=str(path))
    rate = known.rate or trace.rate
    load = Load(rate=rate or None, arrivals=str(path) if trace.rate else None)
    return _scenario(f"The trace {path.name}", service, load, trace.pods, known, base)


def from_metrics(
    place: str, metric: str | None, over_s: float, wait: Callable[[float], object],
    known: Known, base: Scenario | None,
) -> Scenario:  # fmt: skip
    """The durations of a histogram; from a URL, what it counts between two looks.

    Args:
        place: a URL, or a file in Prometheus' text format.
        metric: the histogram's name; None: the only one.
        over_s: the time between two looks at a URL [s].
        wait: waits so many seconds.
        known: what the caller adds.
        base: gives all but load and service.

    Raises:
        ConfigError: it can't be read, or does not tell enough.
    """
    rate = known.rate
    if "://" in place:
        before = read_histogram(_fetched(place), place, metric)
        wait(over_s)
        seen: Histogram = read_histogram(_fetched(place), place, metric).since(before)
        rate = rate or seen.count / over_s
    else:
        seen = read_histogram(_file(place), place, metric)
    samples = tuple(1000.0 * s for s in seen.samples())
    mean_ms = math.fsum(samples) / len(samples)
    service = Service(shape="trace", mean_ms=mean_ms, samples_ms=samples)
    return _scenario(f"The histogram {seen.name}", service, Load(rate=rate), seen.pods, known, base)


def _scenario(
    title: str, service: Service, load: Load, pods: int, known: Known, base: Scenario | None
) -> Scenario:
    if load.rate is None:
        raise ConfigError(f"{title}: does not tell how many requests come; give --rate")
    if base is not None:
        return replace(base, service=service, load=load)
    count = known.pods or pods
    if not count:
        raise ConfigError(f"{title}: does not tell how many pods there are; give --pods")
    erlangs = load.rate * (service.mean_ms or 0.0) / 1000.0
    workers = known.workers or max(1, math.ceil(erlangs / count / UTILISATION))
    return Scenario(
        title=title,
        clients=Clients(count=known.clients or CLIENTS),
        servers=Servers(count=count, workers=workers),
        load=load,
        service=service,
        policies=tuple(Choice.named(name) for name in POLICIES),
        requests=100_000,
    )


def with_known(scenario: Scenario, known: Known) -> Scenario:
    """The scenario with what the command line says instead.

    Raises:
        ConfigError: a closed loop has no rate.
    """
    clients, servers, load = scenario.clients, scenario.servers, scenario.load
    if known.clients is not None:
        clients = replace(clients, count=known.clients, zones={}, zone_rates={})
    if known.pods is not None:
        servers = replace(servers, count=known.pods, zones={}, zone_speed={})
    if known.workers is not None:
        servers = replace(servers, workers=known.workers)
    if known.rate is not None:
        if load.loop == "closed":
            raise ConfigError("--rate: a closed loop has none; its callers wait for answers")
        load = replace(load, rho=None, rate=known.rate)
    return replace(scenario, clients=clients, servers=servers, load=load)


def _fetched(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--from-metrics {url}: give a file, or a URL with http or https")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - see above
            text: bytes = answer.read(_MAX_BYTES)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        raise ConfigError(
            f"--from-metrics {url}: cannot be read: {why}; check that it answers, or save it to a file"
        ) from None
    return text.decode("utf-8", "replace")


def _file(place: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--from-metrics {place}: cannot be read: {why}; give a file in Prometheus' text format, or a URL"
        ) from None
