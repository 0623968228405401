"""What clients count, for the whole process. docs/metrics.md lists it; a test compares."""

from __future__ import annotations

from trimtab.telemetry import Counters, Metric, prometheus_text

METRICS = (
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
)
COUNTERS = Counters(METRICS)


def text() -> str:
    """All of them in the Prometheus text format."""
    return prometheus_text(COUNTERS)
