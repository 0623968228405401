"""What clients count, for the whole process. docs/metrics.md lists it; a test compares."""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.client import live_metrics, xds_metrics
from trimtab.telemetry import Counters, Metric, prometheus_of

COUNTED = (
    Metric(
        "trimtab_client_fallback",
        "gauge",
        "Channels of a service that send their requests to a fallback now.",
        ("service",),
    ),
    Metric(
        "trimtab_client_fallbacks_total",
        "counter",
        "How often a channel of a service went over to a fallback.",
        ("service",),
    ),
    Metric(
        "trimtab_client_policy_errors_total",
        "counter",
        "Ends of attempts that a policy raised at.",
        ("service",),
    ),
)
COUNTERS = Counters(COUNTED)
METRICS = COUNTED + live_metrics.METRICS + xds_metrics.METRICS


def read() -> Iterator[tuple[Metric, dict[tuple[str, ...], float]]]:
    """Each metric with its present values by labels. From any thread."""
    for metric, values in COUNTERS:
        yield metric, dict(values)
    live = live_metrics.read() | xds_metrics.read()
    for metric in live_metrics.METRICS + xds_metrics.METRICS:
        yield metric, live[metric.name]


def text() -> str:
    """All of them in the Prometheus text format."""
    return prometheus_of(read())
