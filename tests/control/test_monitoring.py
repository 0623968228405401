"""The alerts and the dashboard speak of metrics that exist, and each alert has its remedy."""

import json
import re
from pathlib import Path

import pytest
import yaml

from plane import QueueSource, get, running
from trimtab.client import metrics as of_clients
from trimtab.control import metrics as of_the_control_plane
from trimtab.model import Synced

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"


def rules(file):
    groups = yaml.safe_load((MONITORING / file).read_text())["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


RULES = rules("alerts.yaml")
RECORDED = rules("recording.yaml")
PANELS = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
QUERIES = [(rule["alert"], rule["expr"]) for rule in RULES] + [
    (panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]
]
QUERIES += [(r["record"], r["expr"]) for r in RECORDED if "trimtab_" in r["expr"]]
METRICS = of_the_control_plane.METRICS + of_clients.METRICS
# Of Prometheus, not of a metric.
GIVEN = {"le", "pod"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
LABELS = {m.name + suffix: set(m.labels) for m in METRICS for suffix in SUFFIXES[m.kind]}
KINDS = {m.name: m.kind for m in METRICS}


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_there_are(title, query):
    names = set(re.findall(r"trimtab_\w+", query))
    assert names, title
    assert names <= LABELS.keys()
    known = set.union(*(LABELS[name] for name in names)) | GIVEN
    asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", query))
    for group in re.findall(r"by \(([^)]*)\)", query):
        asked |= set(group.replace(" ", "").split(","))
    assert asked <= known
    for name in names:
        counted = KINDS.get(name) == "counter" or name.endswith("_bucket")
        assert counted == bool(re.search(rf"(?:rate|increase)\({name}\b", query)), name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_s_summary_names_labels_that_it_has(rule):
    (name,) = set(re.findall(r"trimtab_\w+", rule["expr"]))
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= LABELS[name] | GIVEN
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def worth_an_alert():
    """What the list of the control plane's metrics says that of."""
    listed = (ROOT / "docs" / "metrics.md").read_text().split("\n# ")[0]
    return re.findall(r"^\| `(\w+)` .*orth an alert", listed, re.MULTILINE)


@pytest.mark.parametrize("name", worth_an_alert())
def test_what_is_called_worth_an_alert_has_one(name):
    assert any(re.search(rf"\b{name}(?:_bucket)?\b", rule["expr"]) for rule in RULES)


async def test_what_alerts_count_is_at_0_when_it_is_first_read():
    """To Prometheus a series that begins at 1 has not increased, so that the first event would be missed."""
    async with running(QueueSource(Synced())) as plane:
        await plane.store.synced.wait()
        _, _, text = await get(plane.admin_address, "/metrics")
    for rule in RULES:
        for name, matcher in re.findall(r"increase\((\w+)(?:\{(.*?)\})?\[", rule["expr"]):
            if name.startswith("trimtab_kube_"):  # of a source: tests/discovery/kubernetes
                continue
            found = re.findall(rf"^{name}\b(?:\{{(.*)\}})? (.*)$", text, re.MULTILINE)
            values = [value for labels, value in found if matcher in labels]
            assert values, name
            assert {*values} == {"0"}, name
    page = (ROOT / "docs" / "metrics.md").read_text()
    (reasons,) = re.findall(r"`trimtab_streams_refused_total` \|[^|]*\|[^|]*\| ([^|]*) \|", page)
    for reason in re.findall(r"`(\w+)`", reasons):
        assert f'trimtab_streams_refused_total{{reason="{reason}"}} 0\n' in text
    for client in ("trimtab", "grpc", "envoy", "other"):
        assert f'trimtab_nacks_total{{type="EDS",client="{client}"}} 0\n' in text


def test_a_recorded_series_joins_the_replicas_and_is_built_on_those_before_it():
    known = {}
    for rule in RECORDED:
        name, expr = rule["record"], rule["expr"]
        assert re.fullmatch(r"trimtab(:\w+)+", name), name
        groups = [set(g.replace(" ", "").split(",")) for g in re.findall(r"by \(([^)]*)\)", expr)]
        assert groups, name
        assert not any({"pod", "instance"} & labels for labels in groups), name
        for used in re.findall(r"trimtab:[\w:]+", expr):
            assert used in known, f"{name} uses {used}, which is not recorded before it"
            assert groups[0] <= known[used], name
        known[name] = groups[0] - {"le"}


def test_every_recorded_series_is_explained():
    page = (ROOT / "docs" / "operations.md").read_text().split("### Recorded series")[1]
    explained = re.findall(r"`(trimtab:[\w:]+)`", page.split("\n## ")[0])
    assert explained == [rule["record"] for rule in RECORDED]


def test_every_alert_has_its_remedy():
    page = (ROOT / "docs" / "operations.md").read_text().split("## Alerts")[1].split("\n## ")[0]
    remedies = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE)
    assert remedies == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize("name", ["kubernetes", "monitoring"])
def test_a_kustomization_lists_every_file(name):
    folder = ROOT / "deploy" / name
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(
        path.name for path in folder.glob("*.yaml")
    )


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json", "recording.yaml"])
def test_the_chart_has_the_same_files(name):
    copy = ROOT / "deploy" / "helm" / "trimtab" / "files" / name
    assert copy.read_bytes() == (MONITORING / name).read_bytes(), (
        f"cp deploy/monitoring/{name} {copy}"
    )
