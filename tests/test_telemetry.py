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
