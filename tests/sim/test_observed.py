"""Scenarios out of traces and metrics."""

import http.server
import json
import threading
from dataclasses import replace
from random import Random
from statistics import fmean

import pytest

from trimtab.errors import ConfigError
from trimtab.sim.observed import Known, from_metrics, from_trace, with_known
from trimtab.sim.prometheus import read_histogram
from trimtab.sim.run import run_one
from trimtab.sim.scenario import Choice
from trimtab.sim.traces import read_trace

METRICS = """
# HELP rpc_duration_seconds how long
# TYPE rpc_duration_seconds histogram
rpc_duration_seconds_bucket{pod="a",le="0.01"} 50
rpc_duration_seconds_bucket{pod="a",le="0.1"} 90
rpc_duration_seconds_bucket{pod="a",le="+Inf"} 100
rpc_duration_seconds_sum{pod="a"} 3
rpc_duration_seconds_count{pod="a"} 100
rpc_duration_seconds_bucket{pod="b",path="x\\"},y",le="0.01"} 50
rpc_duration_seconds_bucket{pod="b",path="x\\"},y",le="0.1"} 90
rpc_duration_seconds_bucket{pod="b",path="x\\"},y",le="+Inf"} 100
rpc_duration_seconds_sum{pod="b",path="x\\"},y"} 3
body_bytes_bucket{le="1"} 5
body_bytes_bucket{le="+Inf"} 6
"""


def never(_seconds):
    raise AssertionError("a file needs no waiting")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_trace_gives_service_times_arrivals_and_pods(kind, tmp_path):
    rows = [(i * 0.02, 0.005 if i % 10 else 0.055, f"pod-{i % 4}") for i in range(2000)]
    path = tmp_path / f"trace.{kind}"
    if kind == "csv":
        path.write_text("Time,latency,pod\n" + "".join(f"{t},{s},{p}\n" for t, s, p in rows))
    else:
        lines = ({"ts": t, "duration": s, "instance": p} for t, s, p in reversed(rows))
        path.write_text("\n".join(map(json.dumps, lines)))
    found = from_trace(path, Known(clients=3), None)
    assert (found.clients.count, found.servers.count) == (3, 4)
    assert found.rate() == pytest.approx(50)
    assert found.mean_s() == pytest.approx(0.010)

    result = run_one(replace(found, requests=5000), Choice.named("p2c"), 1, lambda: 0.0)
    assert result.p50_ms == pytest.approx(5.5, abs=0.01)
    assert result.p99_ms == pytest.approx(55.5, abs=0.01)


def test_times_may_be_dates(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("timestamp,latency\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:02Z,2\n")
    assert read_trace(path).gaps == (2.0,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no request"),
        ("time,latency\n1,-2\n", "t.csv:2: latency: '-2' is no number of seconds"),
        ("time,latency\n1\n", "t.csv:2: latency: None"),
        ("when,took\n1,2\n", "t.csv:1: no column is named latency; there are: when, took; "),
        ("time,latency\nnoon,2\n", "t.csv:2: time: 'noon'"),
        ("time,latency\n1,0\n", "all latencies are 0"),
        ('{"latency": 1}\n[1]\n', "t.csv:2: is no JSON object"),
        ('{"latency": 1}\n{\n', "t.csv:2: is no JSON object"),
        ('{"latency": [1]}\n', "t.csv:1: latency: [1]"),
        ("latency\n1\n", "does not tell how many requests come; give --rate"),
        ("time,latency\n1,1\n2,1\n", "does not tell how many pods there are; give --pods"),
    ],
)
def test_a_trace_that_tells_too_little_is_refused(text, told, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        from_trace(path, Known(), None)
    assert told in str(refused.value)


def test_a_histogram_gives_service_times_with_its_mean(tmp_path):
    path = tmp_path / "metrics.txt"
    path.write_text(METRICS)
    found = from_metrics(str(path), None, 1.0, never, Known(rate=300), None)
    assert found.servers.count == 2
    assert found.mean_s() == pytest.approx(0.030)
    assert found.servers.workers == 7  # 300/s x 30 ms = 9 erlang on 2 pods, 70 % used
    samples = read_histogram(METRICS, "m").samples()
    assert fmean(samples) == pytest.approx(0.030)
    # Each time stays in its bucket.
    assert sum(s <= 0.01 for s in samples) == 500
    assert sum(0.01 < s <= 0.1 for s in samples) == 500
    assert samples[-1] == pytest.approx(0.1)


def test_a_few_that_took_very_long_change_nobody_elses_time():
    random = Random(1)
    times = [random.expovariate(100) if random.random() < 0.98 else 20.0 for _ in range(50_000)]
    bounds = [0.0025 * 2**i for i in range(12)]
    lines = [f'd_seconds_bucket{{le="{b}"}} {sum(t <= b for t in times)}' for b in bounds]
    lines += [f'd_seconds_bucket{{le="+Inf"}} {len(times)}', f"d_seconds_sum {sum(times)}"]
    samples = sorted(read_histogram("\n".join(lines), "m").samples())
    times.sort()
    for part in (0.5, 0.9, 0.95):
        # A bucket's bounds are 1 to 2 apart; inside it times are taken for evenly spread, which is off by up
        # to a third of it where they fall off as steeply as here.
        assert samples[int(part * 1000)] == pytest.approx(times[int(part * 50_000)], rel=0.33)
    assert samples[-1] == pytest.approx(20.0, rel=0.05)
    assert fmean(samples) == pytest.approx(fmean(times))


def test_a_histogram_in_milliseconds_is_read_as_such():
    text = METRICS.replace("duration_seconds", "duration_ms")
    assert read_histogram(text, "m").samples()[-1] == pytest.approx(
        read_histogram(METRICS, "m").samples()[-1] / 1000
    )


@pytest.mark.parametrize(
    ("text", "metric", "told"),
    [
        ("", None, "holds no histogram"),
        (METRICS, "nope", "no such histogram; there are: rpc_duration_seconds, body_bytes"),
        (METRICS + METRICS.replace("rpc", "web"), None, "say which histogram with --metric"),
        ('d_seconds_bucket{le="+Inf"} 0\n', None, "counted nothing"),
        ('d_seconds_bucket{le="1"} 1\n', None, "no le="),
    ],
)
def test_metrics_without_a_clear_histogram_are_refused(text, metric, told):
    with pytest.raises(ConfigError) as refused:
        read_histogram(text, "m", metric)
    assert told in str(refused.value)


def test_a_file_of_metrics_needs_a_rate(tmp_path):
    path = tmp_path / "metrics.txt"
    path.write_text(METRICS)
    with pytest.raises(ConfigError, match="give --rate"):
        from_metrics(str(path), None, 1.0, never, Known(), None)


@pytest.fixture
def endpoint_of_metrics():
    """Counts 50 more requests of 5 ms in pod a at each look."""
    looks = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            more = 50 * len(looks)
            looks.append(1)
            text = METRICS
            for bound, n in (("0.01", 50), ("0.1", 90), ("+Inf", 100)):
                line = f'rpc_duration_seconds_bucket{{pod="a",le="{bound}"}} '
                text = text.replace(f"{line}{n}", f"{line}{n + more}")
            text = text.replace('_sum{pod="a"} 3', f'_sum{{pod="a"}} {3 + 0.005 * more}')
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


def test_two_looks_at_a_url_tell_the_rate_and_only_what_came_between(endpoint_of_metrics):
    waited = []
    found = from_metrics(endpoint_of_metrics, None, 2.0, waited.append, Known(), None)
    assert waited == [2.0]
    assert found.rate() == pytest.approx(25)
    assert found.mean_s() == pytest.approx(0.005)


def test_a_url_that_does_not_answer_is_an_error_with_its_name():
    with pytest.raises(ConfigError, match="metrics: cannot be read: Connection refused; check"):
        from_metrics("http://127.0.0.1:1/metrics", None, 1.0, never, Known(), None)
    with pytest.raises(
        ConfigError, match=r"no\.txt: cannot be read: No such file or directory; give"
    ):
        from_metrics("no.txt", None, 1.0, never, Known(), None)
    with pytest.raises(ConfigError, match="http or https"):
        from_metrics("file:///etc/hosts", None, 1.0, never, Known(), None)


def test_what_the_command_line_knows_replaces_what_the_scenario_says(scenario):
    known = Known(rate=100, clients=7, pods=5, workers=2)
    found = with_known(scenario(), known)
    assert (found.clients.count, found.servers.count, found.servers.workers) == (7, 5, 2)
    assert found.rate() == 100
