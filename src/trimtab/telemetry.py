"""Counters that cost an integer addition. Exporters read them; nothing here knows a format.

Names follow gRPC's metrics (A66, A78) where one exists; docs/metrics.md lists all of them, and a
test compares that table with ``METRICS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric's description.

    Attributes:
        name: as exported, with its unit as a suffix.
        kind: ``counter`` or ``gauge``.
        help: one line.
        labels: the label names; their values come from bounded sets.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


class Counters:
    """Named numbers, each per label values. Not thread-safe: one loop owns it."""

    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._metrics = {m.name: m for m in metrics}
        self._values: dict[str, dict[tuple[str, ...], float]] = {
            m.name: {} if m.labels else {(): 0.0} for m in metrics
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

    def __iter__(self) -> Iterator[tuple[Metric, dict[tuple[str, ...], float]]]:
        for name, metric in self._metrics.items():
            yield metric, self._values[name]


def prometheus_text(counters: Counters) -> str:
    """Render in the Prometheus text format 0.0.4; label values are escaped."""
    lines: list[str] = []
    for metric, values in counters:
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        for labels, value in sorted(values.items()):
            pairs = ",".join(
                f'{key}="{_escape(text)}"' for key, text in zip(metric.labels, labels, strict=True)
            )
            shown = f"{{{pairs}}}" if pairs else ""
            lines.append(f"{metric.name}{shown} {value:.17g}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
