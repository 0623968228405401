import pytest

from trimtab.telemetry import Counters, Metric, prometheus_text

METRICS = (
    Metric("trimtab_streams", "gauge", "Open streams."),
    Metric("trimtab_nacks_total", "counter", "NACKs.", ("type", "client")),
)


def test_counters_render_as_prometheus_text():
    counters = Counters(METRICS)
    counters.set("trimtab_streams", 3)
    counters.add("trimtab_nacks_total", "eds", "envoy")
    counters.add("trimtab_nacks_total", "eds", "envoy", by=2)
    assert prometheus_text(counters) == (
        "# HELP trimtab_streams Open streams.\n"
        "# TYPE trimtab_streams gauge\n"
        "trimtab_streams 3\n"
        "# HELP trimtab_nacks_total NACKs.\n"
        "# TYPE trimtab_nacks_total counter\n"
        'trimtab_nacks_total{type="eds",client="envoy"} 3\n'
    )


def test_label_values_cannot_break_out_of_their_quotes():
    counters = Counters(METRICS)
    counters.add("trimtab_nacks_total", 'e"ds', "a\nb\\c")
    assert 'type="e\\"ds",client="a\\nb\\\\c"} 1' in prometheus_text(counters)


def test_a_metric_that_was_not_declared_is_refused():
    with pytest.raises(KeyError):
        Counters(METRICS).add("trimtab_typo_total")


def test_a_histogram_renders_cumulative_buckets_with_its_sum_and_count():
    counters = Counters(
        (Metric("trimtab_push_seconds", "histogram", "Pushes.", ("type",), (0.01, 0.1)),)
    )
    for value in (0.01, 0.05, 7.0):
        counters.observe("trimtab_push_seconds", value, "eds")
    assert prometheus_text(counters) == (
        "# HELP trimtab_push_seconds Pushes.\n"
        "# TYPE trimtab_push_seconds histogram\n"
        'trimtab_push_seconds_bucket{type="eds",le="0.01"} 1\n'
        'trimtab_push_seconds_bucket{type="eds",le="0.1"} 2\n'
        'trimtab_push_seconds_bucket{type="eds",le="+Inf"} 3\n'
        'trimtab_push_seconds_sum{type="eds"} 7.0599999999999996\n'
        'trimtab_push_seconds_count{type="eds"} 3\n'
    )


def test_a_cleared_gauge_forgets_labels_that_are_gone():
    counters = Counters((Metric("trimtab_endpoints", "gauge", "Endpoints.", ("health",)),))
    counters.set("trimtab_endpoints", 4, "ready")
    counters.clear("trimtab_endpoints")
    assert "ready" not in prometheus_text(counters)
