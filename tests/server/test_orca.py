"""The binary form of load reports; xds-protos is the oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

from trimtab.load_report import LoadReport
from trimtab.server.orca import check_name, check_value, encode_binary, encode_costs

numbers = st.floats(0, 1e9)
names = st.from_regex(r"[a-z][a-z0-9_.-]{0,99}", fullmatch=True)


@given(
    st.builds(
        LoadReport,
        cpu_utilization=numbers,
        application_utilization=numbers,
        rps=numbers,
        eps=numbers,
        in_flight=st.none() | st.integers(0, 10**6),
        latency=st.none() | numbers,
    ),
    st.dictionaries(names.filter(lambda n: n not in {"in_flight", "latency"}), numbers),
    st.dictionaries(names, numbers),
)
def test_what_is_written_is_what_orca_s_own_schema_reads(report, named, costs):
    read = OrcaLoadReport.FromString(encode_binary(report, named) + encode_costs(costs))
    assert read.cpu_utilization == report.cpu_utilization
    assert read.application_utilization == report.application_utilization
    assert read.rps_fractional == report.rps
    assert read.eps == report.eps
    said = {"in_flight": report.in_flight, "latency": report.latency}
    assert read.named_metrics == named | {k: v for k, v in said.items() if v is not None}
    assert read.request_cost == costs


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a,b", "ä", "a\n", "x" * 101])
def test_a_name_that_would_spoil_a_report_is_refused(name):
    with pytest.raises(ValueError, match="metric name"):
        check_name(name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_value_that_is_no_load_is_refused(value):
    with pytest.raises(ValueError, match="'rows'"):
        check_value("rows", value)
