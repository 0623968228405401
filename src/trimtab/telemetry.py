"""Counters that cost an integer addition. Exporters read them; nothing here knows a format.

Names follow gRPC's metrics (A66, A78) where one exists; docs/metrics.md lists all of them, and a
test compares that table with ``METRICS``.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric's description.

    Attributes:
        name: as exported, with its unit as a suffix.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: one line.
        labels: the label names; their values come from bounded sets.
        buckets: a histogram's upper bounds, ascending, in the unit of the name.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Histogram:
    """How often values fell into each bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.total = 0.0


class Counters:
    """Named numbers, each per label values. Not thread-safe: one loop owns it."""

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._metrics = {m.name: m for m in metrics}
        self._values: dict[str, dict[tuple[str, ...], float]] = {
            m.name: {} if m.labels else {(): 0.0} for m in metrics if m.kind != "histogram"
        }
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {
            m.name: {} if m.labels else {(): Histogram(len(m.buckets))}
            for m in metrics
            if m.kind == "histogram"
        }

    def add(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Increase a counter. Labels stand in the metric's order."""
        values = self._values[name]
        values[labels] = values.get(labels, 0.0) + by

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._values[name][labels] = value

    def get(self, name: str, *labels: str) -> float:
        """The present value, 0 if it was never touched."""
        return self._values[name].get(labels, 0.0)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put a value into a histogram."""
        histograms = self._histograms[name]
        buckets = self._metrics[name].buckets
        histogram = histograms.get(labels)
        if histogram is None:
            histogram = histograms[labels] = Histogram(len(buckets))
        histogram.counts[bisect.bisect_left(buckets, value)] += 1
        histogram.total += value

    def clear(self, name: str) -> None:
        """Forget a gauge's values, before it is set anew for the labels that exist now."""
        self._values[name].clear()

    def __iter__(self) -> Iterator[tuple[Metric, dict[tuple[str, ...], float]]]:
        """Each counter and gauge with its values by labels."""
        for name, values in self._values.items():
            yield self._metrics[name], values

    def histograms(self) -> Iterator[tuple[Metric, dict[tuple[str, ...], Histogram]]]:
        """Each histogram with its buckets by labels."""
        for name, values in self._histograms.items():
            yield self._metrics[name], values


def prometheus_text(counters: Counters) -> str:
    """Render in the Prometheus text format 0.0.4; label values are escaped."""
    lines: list[str] = []
    for metric, values in counters:
        lines.extend(_series(metric, values))
    for metric, histograms in counters.histograms():
        lines.extend(_heading(metric))
        for labels, histogram in sorted(histograms.items()):
            pairs = list(zip(metric.labels, labels, strict=True))
            reached = 0
            for bound, count in zip((*metric.buckets, math.inf), histogram.counts, strict=True):
                reached += count
                le = "+Inf" if bound == math.inf else f"{bound:g}"
                lines.append(_line(f"{metric.name}_bucket", [*pairs, ("le", le)], reached))
            lines.append(_line(f"{metric.name}_sum", pairs, histogram.total))
            lines.append(_line(f"{metric.name}_count", pairs, reached))
    return "\n".join(lines) + "\n"


def prometheus_of(read: Iterable[tuple[Metric, Mapping[tuple[str, ...], float]]]) -> str:
    """Counters and gauges in the same format, from anything that iterates as ``Counters`` do."""
    return "\n".join(line for metric, values in read for line in _series(metric, values)) + "\n"


def _series(metric: Metric, values: Mapping[tuple[str, ...], float]) -> Iterator[str]:
    yield from _heading(metric)
    for labels, value in sorted(values.items()):
        yield _line(metric.name, zip(metric.labels, labels, strict=True), value)


def _heading(metric: Metric) -> tuple[str, str]:
    return f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"


def _line(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{pairs}}} {value:.17g}" if pairs else f"{name} {value:.17g}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
