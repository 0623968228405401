"""The metrics of the Kubernetes source. docs/metrics.md explains each."""

from __future__ import annotations

from trimtab.telemetry import Metric

LISTS = "trimtab_kube_lists_total"
WATCHES = "trimtab_kube_watches_total"
EVENTS = "trimtab_kube_events_total"
FAILURES = "trimtab_kube_failures_total"
CHECKS = "trimtab_kube_checks_total"
REPAIRS = "trimtab_kube_repairs_total"
EVENT_LAG = "trimtab_kube_event_lag_seconds"
WITHHELD = "trimtab_kube_withheld_objects"

# From a pod's change to here: the kubelet and the slice controller take most of it.
_LAG_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

METRICS: tuple[Metric, ...] = (
    Metric(LISTS, "counter", "Complete lists taken from the API server.", ("source", "resource")),
    Metric(WATCHES, "counter", "Watches opened.", ("source", "resource")),
    Metric(EVENTS, "counter", "Events that watches brought.", ("source", "resource")),
    Metric(
        WITHHELD,
        "gauge",
        "Objects that a list lacked and that are kept for a while, being so many.",
        ("source",),
    ),
    Metric(FAILURES, "counter", "Failed lists and watches.", ("source", "reason")),
    Metric(
        CHECKS, "counter", "Comparisons of the known state with a list.", ("source", "resource")
    ),
    Metric(
        REPAIRS,
        "counter",
        "Objects in which the known state differed from the API server's, and was mended.",
        ("source", "resource"),
    ),
    Metric(
        EVENT_LAG,
        "histogram",
        "Seconds from what changed a slice to its event being applied.",
        ("source",),
        _LAG_BUCKETS_S,
    ),
)
