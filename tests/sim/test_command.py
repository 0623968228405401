"""What people and programs get from ``trimtab simulate``."""

import json
import re
import xml.etree.ElementTree as ET
from io import StringIO
from itertools import count
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from trimtab.cli import cli
from trimtab.errors import ConfigError
from trimtab.sim import library
from trimtab.sim.report import Report
from trimtab.sim.run import run, run_one
from trimtab.sim.sizing import needs, parse_goal, saving, with_pods
from trimtab.sim.tables import show

SMALL = """
title: A small <fleet> & more
clients: {zones: {a: 3, b: 2}}
servers: {zones: {a: 3, b: 2}, workers: 2}
load: {rho: 0.7}
service: {mean_ms: 10}
events: [{kind: gone, pods: 1, at_s: 2}]
policies: [round_robin, {name: p2c, label: "p2c <bare>", judges: false}, token]
seconds: 5
seeds: [1, 2]
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL)
    return path


def simulate(*words, code=0):
    done = CliRunner().invoke(cli, ["simulate", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def test_the_list_shows_every_scenario_and_its_title():
    told = simulate("--list")
    assert [line.split()[0] for line in told.splitlines()] == library.names()
    names = [one["name"] for one in json.loads(simulate("--list", "--output", "json"))["scenarios"]]
    assert names == library.names()


def test_the_table_has_a_row_for_each_policy_and_bound(mine):
    told = simulate(mine)
    firsts = [re.split(r"  ", line)[0] for line in told.splitlines() if line.count("±") > 1]
    assert firsts == ["random", "round_robin", "p2c <bare>", "token", "JSQ, global knowledge"]
    for head in ("p99.9", "errors (2 s)", "cross-zone", "max/mean", "used"):
        assert head in told
    assert "5 clients, 5 pods with 2 workers each and one queue" in told


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_narrow_terminal_shows_each_figure_beside_its_policy(mine, columns):
    _, scenario = library.find(str(mine))
    report = Report("mine", scenario, run(scenario, count().__next__, lambda *_: None))
    narrow, wide = (Console(width=width, file=StringIO()) for width in (columns, 500))
    for console in (narrow, wide):
        show(report, console)
    lines = narrow.file.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    assert "…" not in narrow.file.getvalue()
    for row in report.rows:
        (whole,) = (line for line in wide.file.getvalue().splitlines() if begins(line, row.label))
        parts = [line for line in lines if begins(line, row.label)]
        assert len(parts) > 1
        assert [cell for part in parts for cell in split(part)[1:]] == split(whole)[1:]


def begins(line, label):
    return split(line)[0] == label


def split(line):
    """The cells of a row; two blanks or more stand between them."""
    return re.split(r" {2,}", line.rstrip())


def test_the_json_has_the_documented_keys(mine, tmp_path):
    told = json.loads(simulate(mine, "--output", "json", "--json", tmp_path / "out.json"))
    assert told == json.loads((tmp_path / "out.json").read_text())
    assert told["scenario"]["name"] == "mine"
    assert told["scenario"]["events"][0]["kind"] == "gone"
    token = next(row for row in told["policies"] if row["label"] == "token")
    runs = [run["p99_ms"] for run in token["runs"]]
    assert token["p99_ms"] == pytest.approx(sum(runs) / 2)
    assert token["sd"]["p99_ms"] == pytest.approx(abs(runs[0] - runs[1]) / 2**0.5)
    assert sum(token["runs"][0]["picks"]) > 0
    assert [row["bound"] for row in told["policies"]] == [True, False, False, False, True]


def test_the_page_is_well_formed_complete_and_loads_nothing(mine, tmp_path):
    simulate(mine, "--html", tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text()
    root = ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    charts = root.findall(".//{http://www.w3.org/2000/svg}svg")
    assert [chart.get("aria-label") for chart in charts] == [
        "Latency quantiles in milliseconds, by policy",
        "p99 over time, by policy",
        "Requests of each pod, by policy",
    ]
    assert not re.search(r"\b(src|href)\s*=|url\(|@import|<script|<link", text)
    for chart in charts:
        width, height = (float(chart.get(side)) for side in ("width", "height"))
        for shape in chart.iter("{http://www.w3.org/2000/svg}rect"):
            assert 0 <= float(shape.get("x")) <= width
            assert 0 <= float(shape.get("y")) <= height


def test_the_page_says_what_it_was_made_by_without_where_it_went(mine, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_SIMULATE_SEEDS", "1")
    simulate(mine, "--policies", "p2c", "--html", tmp_path / "out.html")
    made_by = f"trimtab simulate {mine} --policies p2c --seeds 1"
    assert f"<code>{made_by}</code>" in (tmp_path / "out.html").read_text()


def test_options_replace_what_the_scenario_says(mine):
    told = json.loads(
        simulate(mine, "--policies", "p2c,p2c <bare>", "--seeds", 3, "--output", "json",
                 "--requests", 2000)
    )  # fmt: skip
    rows = told["policies"]
    assert [row["label"] for row in rows if not row["bound"]] == ["p2c", "p2c <bare>"]
    assert all(len(row["runs"]) == 3 for row in rows)
    assert told["scenario"]["requests"] == 2000


METRICS = """\
# TYPE rpc_duration_seconds histogram
rpc_duration_seconds_bucket{le="0.01"} 500
rpc_duration_seconds_bucket{le="0.1"} 900
rpc_duration_seconds_bucket{le="+Inf"} 1000
rpc_duration_seconds_sum 60
rpc_duration_seconds_count 1000
"""


@pytest.mark.parametrize("source", ["--from-trace", "--from-metrics"])
def test_what_a_running_system_recorded_is_simulated(source, tmp_path):
    recorded = tmp_path / "recorded.txt"
    if source == "--from-trace":
        rows = "".join(f"{i / 100},{0.01 + i % 7 / 1000}\n" for i in range(2000))
        recorded = tmp_path / "recorded.csv"
        recorded.write_text(f"time,latency\n{rows}")
        more = []
    else:
        recorded.write_text(METRICS)
        more = ["--rate", 100]
    told = json.loads(
        simulate(source, recorded, *more, "--pods", 4, "--workers", 2, "--policies", "p2c,token",
                 "--requests", 2000, "--output", "json")
    )  # fmt: skip
    rows = {row["label"]: row["runs"][0] for row in told["policies"]}
    assert {"p2c", "token"} <= rows.keys()
    assert told["scenario"]["servers"]["count"] == 4
    mean = 0.013 if source == "--from-trace" else 0.06
    assert all(run["mean_ms"] >= 1000 * mean / 1.5 for run in rows.values())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "say which scenario; --list shows"),
        (("nope",), "scenario 'nope': is neither a file nor one of"),
        (("small-flet",), "did you mean small-fleet?"),
        (("nope.yaml",), "nope.yaml: cannot be read"),
        (("MINE", "--policies", "p9"), "mine: --policies: policy 'p9' is unknown"),
        (("MINE", "--requests", "10"), "mine: events[0].at_s: 2.0: the run ends at"),
        (("small-fleet", "--requests", "2000"), "give more --requests than 2,000"),
        (("MINE", "--seeds", "0"), "--seeds"),
        (("MINE", "--json", "no/where.json"), "no/where.json: the directory no does not exist"),
        (("MINE", "--html", "/"), "/: is a directory; give a file's name"),
        (("MINE", "--pods-for", "p98<1ms"), "--pods-for 'p98<1ms': is no goal"),
        (("MINE", "--pods-for", "p99<1ms", "--html", "x.html"), "leave --pods-for away"),
        (("--from-trace", "no.csv"), "no.csv: cannot be read"),
        (("--from-trace", "a", "--from-metrics", "b"), "give one of them"),
    ],
)
def test_wrong_use_is_refused_with_what_would_be_right(words, told, mine):
    said = simulate(*(mine if word == "MINE" else word for word in words), code=2)
    assert told in " ".join(said.split())


def never(*_):
    """Nobody is told how far it is."""


def test_goals_are_read_with_their_units():
    assert parse_goal("p99<60ms").limit_ms == 60
    assert parse_goal(" p99.9 < 0.1s ").figure == "p999_ms"
    assert parse_goal("mean<1.5s").limit_ms == 1500
    for bad in ("p99", "p99>3ms", "p99<3", "p99<0ms", "p99<-3ms"):
        with pytest.raises(ConfigError, match="is no goal"):
            parse_goal(bad)


def test_the_search_finds_the_fewest_pods_that_reach_the_goal(scenario):
    found = scenario(
        clients={"count": 1}, servers={"count": 20, "workers": 1}, load={"rate": 500}, requests=20_000,
        policies=["p2c"],
    )  # fmt: skip
    goal = parse_goal("p99<70ms")
    needed = {need.label: need for need in needs(found, goal, lambda: 0.0, lambda *_: None)}
    assert list(needed) == ["round_robin", "p2c"]
    p2c = needed["p2c"]
    assert 6 <= p2c.pods < needed["round_robin"].pods
    assert p2c.reached_ms < 70
    # Less than the work of most, 46 ms, but not so much that it is refused.
    fewer = needs(with_pods(found, p2c.pods), parse_goal("p99<43ms"), lambda: 0.0, lambda *_: None)
    assert all(need.pods is None for need in fewer)
    assert saving(list(needed.values()))["p2c"] == pytest.approx(
        1 - p2c.pods / needed["round_robin"].pods
    )


@pytest.mark.parametrize("goal", ["mean<9ms", "p50<6ms", "p90<20ms", "p99<40ms", "p99.9<30ms"])
def test_a_goal_that_the_work_alone_exceeds_is_refused_at_once(goal, scenario):
    """Work of 10 ms on average, exponential: half take 6.9 ms, 90 % 23 ms, 99 % 46 ms."""
    with pytest.raises(ConfigError, match="no number of pods reaches that"):
        needs(scenario(requests=40_000), parse_goal(goal), lambda: 0.0, never)


@pytest.mark.parametrize(
    "service",
    [
        {"shape": "constant", "mean_ms": 10},
        {"shape": "lognormal", "mean_ms": 10, "sigma": 1.5},
        # As many are slow as are beyond the figure: chance decides which it is.
        {"shape": "bimodal", "mean_ms": 10, "slow_part": 0.01, "slow_factor": 20},
        {"shape": "trace", "samples_ms": [5, 5, 5, 5, 5, 5, 5, 5, 50]},
    ],
)
@pytest.mark.parametrize("figure", ["mean", "p90", "p99"])
def test_a_goal_that_idle_pods_reach_is_never_refused(service, figure, scenario):
    idle = scenario(
        clients={"count": 1}, servers={"count": 40, "workers": 1, "speed": [1.0, 2.0]},
        load={"rate": 200}, requests=4_000, policies=["p2c"], service=service,
    )  # fmt: skip
    reached = getattr(run_one(idle, idle.policies[0], 1, lambda: 0.0), f"{figure}_ms")
    goal = parse_goal(f"{figure}<{reached * 1.001:.4f}ms")
    assert any(need.pods for need in needs(idle, goal, lambda: 0.0, never))


def test_pods_stay_spread_over_zones(scenario):
    found = scenario(servers={"zones": {"a": 30, "b": 20, "c": 10}})
    assert with_pods(found, 12).servers.zones == {"a": 6, "b": 4, "c": 2}
    assert sum(with_pods(found, 13).servers.zones.values()) == 13


@pytest.mark.parametrize("page", ["docs/reference/scenarios.md", "docs/guides/simulate.md"])
def test_the_scenarios_of_the_docs_are_valid(page, tmp_path):

    text = (Path(__file__).parents[2] / page).read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        assert yaml.safe_load(block)
        (tmp_path / "x.yaml").write_text(block)
        library.find(str(tmp_path / "x.yaml"))
