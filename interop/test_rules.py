"""Recorded series and alerts, evaluated by Prometheus' own engine on series that a test makes."""

import json
import re
import subprocess

import pytest
import yaml

from harness.deploy_tools import DEPLOY, PROMQL

INTERVAL_S = 30
UNITS_S = {"s": 1, "m": 60, "h": 3600}


def rules(file):
    content = yaml.safe_load((DEPLOY / "monitoring" / file).read_text())
    for group in content["spec"]["groups"]:
        for rule in group["rules"]:
            yield {
                "record": rule.get("record", ""),
                "alert": rule.get("alert", ""),
                "expr": rule["expr"],
                "for": seconds(rule.get("for", "0s")),
            }


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)([smh])", text).groups()
    return int(number) * UNITS_S[unit]


RECORDED = [*rules("recording.yaml")]
ALERTS = [*rules("alerts.yaml")]


def evaluated(evaluate, series, over_s):
    """What stands at the end, after so long [s]: the labels and value of each sample, by name.

    Args:
        evaluate: rules.
        series: each with its values, one per interval, in the notation of Prometheus' own tests.
        over_s: how long [s].
    """
    assert PROMQL.exists(), f"{PROMQL} is not there: run interop/deploy/build"
    lines = [f"load {INTERVAL_S}s", *(f"  {name} {values}" for name, values in series.items())]
    task = {
        "series": "\n".join(lines),
        "rules": evaluate,
        "seconds": over_s,
        "interval": INTERVAL_S,
    }
    done = subprocess.run(
        [PROMQL, "evaluate"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for sample in json.loads(done.stdout):
        labels = {k: v for k, v in sample["labels"].items() if k != "__name__"}
        found.setdefault(sample["name"], []).append((labels, sample["value"]))
    return found


def firing(series, over_s=1800):
    """The alerts that fire at the end, with their labels, of a replica that is read."""
    found = evaluated(ALERTS, SCRAPED | series, over_s)
    return {name: [labels for labels, _ in samples] for name, samples in found.items()}


def counter(per_second, points=70):
    return f"0+{per_second * INTERVAL_S}x{points}"


def requests(endpoint, pod, per_second, client="envoy", cluster="orders.shop:8080"):
    name = (
        f'trimtab_load_requests_total{{cluster="{cluster}",zone="a",endpoint="{endpoint}",'
        f'client="{client}",pod="{pod}"}}'
    )
    return {name: counter(per_second)}


def test_evenness_is_that_of_all_replicas_together():
    """Each replica's own clients are uneven; together they are as 30 to 10."""
    series = (
        requests("10.0.0.1:80", "one", 20)
        | requests("10.0.0.1:80", "two", 10, "trimtab")
        | requests("10.0.0.2:80", "two", 10)
        | requests("", "two", 500, "grpc")  # counts by zone: says nothing of endpoints
    )
    found = evaluated(RECORDED, series, 600)
    assert {labels["endpoint"]: v for labels, v in found["trimtab:load_endpoint:rate1m"]} == {
        "10.0.0.1:80": pytest.approx(30),
        "10.0.0.2:80": pytest.approx(10),
    }
    cluster = {"cluster": "orders.shop:8080"}
    assert found["trimtab:load_max_to_mean"] == [(cluster, pytest.approx(1.5))]
    assert found["trimtab:load_cv"] == [(cluster, pytest.approx(0.5))]


def test_where_servers_speak_their_word_is_taken_once_however_many_replicas_heard_it():
    def said(endpoint, pod, rate):
        labels = f'cluster="orders.shop:8080",zone="a",endpoint="{endpoint}",pod="{pod}"'
        return {f"trimtab_load_server_requests_per_second{{{labels}}}": f"{rate}x70"}

    series = {}
    for pod in ("one", "two"):
        series |= said("10.0.0.1:80", pod, 60) | said("10.0.0.2:80", pod, 20)
    # One client of many, and an endpoint whose server says nothing: the two don't add up.
    series |= requests("10.0.0.1:80", "one", 5) | requests("10.0.0.3:80", "one", 5)
    series |= requests("10.0.9.9:80", "one", 7, cluster="pay.shop:8080")
    found = evaluated(RECORDED, series, 600)
    assert {
        (labels["cluster"], labels["endpoint"]): value
        for labels, value in found["trimtab:load_endpoint:rate1m"]
    } == {
        ("orders.shop:8080", "10.0.0.1:80"): 60,
        ("orders.shop:8080", "10.0.0.2:80"): 20,
        ("pay.shop:8080", "10.0.9.9:80"): pytest.approx(7),
    }
    even = {labels["cluster"]: value for labels, value in found["trimtab:load_max_to_mean"]}
    assert even == {"orders.shop:8080": 1.5, "pay.shop:8080": pytest.approx(1)}


def test_the_error_ratio_is_of_the_whole_cluster():
    name = 'trimtab_load_errors_total{cluster="orders.shop:8080",zone="a",endpoint="10.0.0.1:80",client="envoy",pod="one"}'
    series = requests("10.0.0.1:80", "one", 30) | requests("10.0.0.2:80", "two", 10)
    found = evaluated(RECORDED, series | {name: counter(4)}, 600)
    assert found["trimtab:load_error_ratio"] == [
        ({"cluster": "orders.shop:8080"}, pytest.approx(0.1))
    ]


def test_the_recorded_latency_of_pushes_is_that_of_all_replicas():
    series = {}
    for pod in ("one", "two"):
        for bound, rate in (("0.1", 50), ("0.25", 100), ("+Inf", 100)):
            series[f'trimtab_push_seconds_bucket{{le="{bound}",pod="{pod}"}}'] = counter(rate)
    found = evaluated(RECORDED, series, 900)
    # Half within 0.1 s, the rest within 0.25 s: 98 % of the way through the second bucket.
    assert found["trimtab:push_seconds:p99"] == [({}, pytest.approx(0.1 + 0.15 * 0.98))]


# By alert: what makes it fire, and the same thing a little less.
LABELS = 'pod="one",source="kubernetes"'
SCRAPED = {'trimtab_ready{pod="one"}': "1x70"}
CASES = {
    "TrimtabNotReady": ('trimtab_ready{pod="one"}', "0x70", "1x70"),
    "TrimtabSourceFailing": (f"trimtab_source_failing{{{LABELS}}}", "1x70", "0x70"),
    "TrimtabSourceOld": (f"trimtab_source_contact_age_seconds{{{LABELS}}}", "0+30x70", "0+14x70"),
    "TrimtabOnTrust": (f"trimtab_clusters_on_trust{{{LABELS}}}", "3x70", "0x70"),
    "TrimtabWithheld": (f"trimtab_kube_withheld_objects{{{LABELS}}}", "0x50 5x20", "5x50 0x20"),
    "TrimtabRepaired": (
        f'trimtab_kube_repairs_total{{{LABELS},resource="endpointslices"}}',
        "0x50 1x20",
        "1x70",
    ),
    "TrimtabStateNotWritten": (
        'trimtab_state_writes_total{pod="one",result="failed"}',
        "0x50 1x20",
        "1x70",
    ),
    "TrimtabRejected": (
        'trimtab_nacks_total{pod="one",type="EDS",client="envoy"}',
        "0x50 1x20",
        "0x10 1x60",
    ),
    "TrimtabHeld": ('trimtab_streams_held{pod="one",type="CDS",client="envoy"}', "2x70", "0x70"),
    "TrimtabOversize": (
        'trimtab_oversize_responses_total{pod="one",type="EDS"}',
        "0x50 1x20",
        "0x10 1x60",
    ),
    "TrimtabBadInput": (f"trimtab_problems_total{{{LABELS}}}", "0x50 2x20", "2x70"),
    "TrimtabConfigRejected": (
        'trimtab_config_reloads_total{pod="one",result="rejected"}',
        "0x50 1x20",
        "1x70",
    ),
    "TrimtabStreamsRefused": (
        'trimtab_streams_refused_total{pod="one",reason="no_token"}',
        "0x50 9x20",
        "9x70",
    ),
    "TrimtabInsecure": ('trimtab_insecure_listener{pod="one",port="xds"}', "1x70", "0x70"),
    "TrimtabCertificateEnds": ('trimtab_certificate_ends_soon{pod="one"}', "1x70", "1x30 0x40"),
    "TrimtabLogLost": ('trimtab_log_lines_dropped_total{pod="one"}', "0x50 7x20", "7x70"),
    "TrimtabFault": ('trimtab_stream_exceptions_total{pod="one"}', "0x50 1x20", "0x10 1x60"),
}


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_where_it_should_and_names_whom_it_is_about(alert):
    name, bad, good = CASES[alert]
    found = firing({name: bad})
    assert [*found] == [alert]
    (labels,) = found[alert]
    assert labels["pod"] == "one"
    assert not firing({name: good})


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS if "increase" in rule["expr"]])
def test_what_a_replica_had_counted_when_it_was_first_read_is_told_for_a_while(alert):
    name, _, _ = CASES[alert]
    assert [*firing({name: "_x50 1x20"})] == [alert]
    assert not firing({name: "_x50 0x20"})
    assert not firing({name: "_x10 1x60"})


def test_no_replica_that_is_read_is_told_after_five_minutes():
    lost = {'trimtab_ready{pod="one"}': "1x10 stale _x60"}
    assert not firing(lost, 570)
    assert firing(lost, 900) == {"TrimtabGone": [{}]}


def test_an_alert_that_waits_does_not_fire_before():
    series = {'trimtab_ready{pod="one"}': "1x4 0x60"}
    assert not firing(series, 240)
    assert firing(series, 300)


def test_slow_pushes_are_told_after_ten_minutes():
    series = {
        f'trimtab_push_seconds_bucket{{le="{bound}",pod="one"}}': counter(rate)
        for bound, rate in (("1", 9), ("5", 10), ("+Inf", 10))
    }
    assert not firing(series, 540)
    assert [*firing(series, 900)] == ["TrimtabSlowPushes"]
    quick = {name: counter(10) for name in series}
    assert not firing(quick, 900)


def test_a_loop_that_is_late_all_the_time_is_told_and_one_that_stood_still_once_is_not():
    def beats(late):
        within = {"0.25": 2 - late, "0.5": 2, "+Inf": 2}
        return {
            f'trimtab_event_loop_lag_seconds_bucket{{le="{bound}",pod="one"}}': counter(rate)
            for bound, rate in within.items()
        }

    assert not firing(beats(late=0.1), 1500)
    assert not firing(beats(late=1), 540)
    assert firing(beats(late=1), 1500) == {"TrimtabLoopLate": [{"pod": "one"}]}


def test_every_alert_is_tried_here():
    others = {"TrimtabGone", "TrimtabSlowPushes", "TrimtabLoopLate"}
    assert {rule["alert"] for rule in ALERTS} == {*CASES, *others}
