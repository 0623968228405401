"""Every query of the alerts, the recorded series and the dashboard is one that Prometheus can read."""

import json
import subprocess

import yaml

from harness.deploy_tools import DEPLOY, PROMQL

MONITORING = DEPLOY / "monitoring"


def queries():
    for file in ("alerts.yaml", "recording.yaml"):
        for group in yaml.safe_load((MONITORING / file).read_text())["spec"]["groups"]:
            yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def parsed(*lines):
    """The errors of Prometheus' own parser."""
    assert PROMQL.exists(), f"{PROMQL} is not there: run interop/deploy/build"
    text = "\n".join(lines)
    done = subprocess.run(
        [PROMQL], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    assert not done.stderr
    return done.stdout


def test_prometheus_reads_every_query():
    found = [*queries()]
    assert len(found) > 30
    assert not parsed(*found)


def test_a_query_that_is_wrong_is_found():
    assert "parse error" in parsed("sum by (le (rate(trimtab_pushes_total[5m])))")
