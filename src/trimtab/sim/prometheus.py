"""A histogram of request durations in Prometheus' text format, as service times and a rate.

Inside a bucket the times are taken for evenly spread, as ``histogram_quantile`` does. What the sum says beyond that
belongs to those above the last bound, who are put at their mean; else every time moves inside its bucket,
all by the same part of the way to its upper or lower bound, until their mean is the histogram's own (sum / count).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from trimtab.errors import ConfigError

_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)?")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')
_LIKELY = re.compile(r"duration|latency|_time|seconds")
_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Histogram:
    """All series of one histogram together.

    Attributes:
        name: without ``_bucket``.
        counts: cumulative, by upper bound [s]; the last is infinite.
        total_s: sum of all durations [s]; None: not told.
        pods: values of the label pod, else instance; 0: there is none.
    """

    name: str
    counts: tuple[tuple[float, float], ...]
    total_s: float | None
    pods: int

    @property
    def count(self) -> float:
        """Requests."""
        return self.counts[-1][1]

    def since(self, before: Histogram) -> Histogram:
        """What was added since an earlier look.

        Raises:
            ConfigError: counters were reset meanwhile, or nothing was added.
        """
        earlier = dict(before.counts)
        counts = tuple((bound, n - earlier.get(bound, 0.0)) for bound, n in self.counts)
        if any(n < 0.0 for _, n in counts):
            raise ConfigError(f"{self.name}: was reset between two looks (a restart?); try again")
        if counts[-1][1] <= 0.0:
            raise ConfigError(f"{self.name}: no request came between two looks; look for longer")
        total = None
        if self.total_s is not None and before.total_s is not None:
            total = self.total_s - before.total_s
        return Histogram(self.name, counts, total, self.pods)

    def samples(self) -> tuple[float, ...]:
        """Durations [s], spread as the histogram says."""
        last = [bound for bound, _ in self.counts if bound < math.inf][-1]
        above = self.count - self.counts[-2][1]
        tail = min(_POINTS, max(1, round(_POINTS * above / self.count))) if above else 0
        inside = _POINTS - tail
        counted = self.count - above
        places = [self._at((i + 0.5) / inside * counted) for i in range(inside)]
        found = [at for at, _, _ in places]
        wanted = self.total_s / self.count * _POINTS if self.total_s else None
        far = max(last, (wanted - math.fsum(found)) / tail) if wanted and tail else last
        if wanted:
            lack = wanted - far * tail - math.fsum(found)
            room = [(high if lack > 0.0 else low) - at for at, low, high in places]
            whole = math.fsum(room)
            part = min(1.0, lack / whole) if whole else 0.0
            found = [at + part * step for at, step in zip(found, room, strict=True)]
        return (*found, *[far] * tail)

    def _at(self, rank: float) -> tuple[float, float, float]:
        """Where that request stands, and the bounds of its bucket [s]; it is below the last bound."""
        low = below = 0.0
        for bound, count in self.counts:
            if count >= rank and count > below:
                return low + (bound - low) * (rank - below) / (count - below), low, bound
            low, below = bound, count
        raise AssertionError(rank)


def read_histogram(text: str, where: str, wanted: str | None = None) -> Histogram:
    """The histogram of that name; without a name the only one that looks like durations.

    Raises:
        ConfigError: there is none, or several.
    """
    buckets: dict[str, dict[float, float]] = {}
    sums: dict[str, float] = {}
    pods: dict[str, set[str]] = {}
    for name, labels, value in _samples(text):
        if name.endswith("_bucket") and "le" in labels:
            base = name.removesuffix("_bucket")
            found = buckets.setdefault(base, {})
            bound = _number(labels["le"])
            found[bound] = found.get(bound, 0.0) + value
            pods.setdefault(base, set()).add(labels.get("pod") or labels.get("instance", ""))
        elif name.endswith("_sum"):
            sums[name.removesuffix("_sum")] = sums.get(name.removesuffix("_sum"), 0.0) + value
    name = _choose(list(buckets), where, wanted)
    unit = 0.001 if re.search(r"_(ms|milliseconds)$", name) else 1.0
    counts = tuple((bound * unit, n) for bound, n in sorted(buckets[name].items()))
    if len(counts) < 2 or counts[-1][0] < math.inf or not counts[-1][1] > 0.0:  # noqa: PLR2004 - one bound and infinity
        raise ConfigError(f'{where}: {name}: has no bucket, no le="+Inf", or counted nothing')
    total = sums.get(name)
    return Histogram(name, counts, None if total is None else total * unit, len(pods[name] - {""}))


def _choose(names: list[str], where: str, wanted: str | None) -> str:
    if wanted is not None:
        if wanted.removesuffix("_bucket") in names:
            return wanted.removesuffix("_bucket")
        known = ", ".join(names) or "none"
        raise ConfigError(f"{where}: --metric {wanted}: no such histogram; there are: {known}")
    if not names:
        raise ConfigError(f"{where}: holds no histogram: no series NAME_bucket with a label le")
    likely = [name for name in names if _LIKELY.search(name)]
    if len(likely) != 1:
        known = ", ".join(likely or names) or "none"
        raise ConfigError(f"{where}: say which histogram with --metric; there are: {known}")
    return likely[0]


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found is None or line.startswith("#"):
            continue
        value = _number(found[3])
        if math.isfinite(value):
            yield found[1], dict(_LABEL.findall(found[2] or "")), value


def _number(text: str) -> float:
    try:
        return float(text)  # "+Inf" included
    except ValueError:
        return math.nan
