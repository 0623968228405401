import re
from pathlib import Path

from trimtab.client import metrics as of_clients
from trimtab.control.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def documented():
    rows = {}
    for line in PAGE.read_text().splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) == 4 and re.fullmatch(
            r"`(trimtab|grpc_subchannel|grpc_xds_client)_\w+`", cells[0]
        ):
            rows[cells[0].strip("`")] = (cells[1], tuple(re.findall(r"`(\w+)`", cells[2])))
    return rows


def test_the_page_lists_exactly_the_metrics_of_the_code():
    assert documented() == {m.name: (m.kind, m.labels) for m in METRICS + of_clients.METRICS}


def test_metric_names_tell_the_project_and_the_unit():
    for metric in METRICS + of_clients.METRICS:
        # The latter two are gRFC A94's and A78's.
        assert metric.name.startswith(("trimtab_", "grpc_subchannel_", "grpc_xds_client_"))
        assert metric.name.endswith("_total") == (metric.kind == "counter")
