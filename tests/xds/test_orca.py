"""Servers' reports are read as ORCA's own messages have them; a lie is cut to what can be true."""

import math

import pytest
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest

from trimtab.errors import ProtocolError
from trimtab.load_report import LoadReport
from trimtab.xds import orca


def test_a_report_of_another_make_is_read():
    report = OrcaLoadReport(
        cpu_utilization=0.5,
        application_utilization=0.25,
        rps_fractional=12.5,
        eps=0.5,
        named_metrics={"in_flight": 3, "latency": 0.02, "queue": 7},
    )
    assert orca.decode(report.SerializeToString()) == LoadReport(0.5, 0.25, 12.5, 0.5, 3, 0.02)


def test_the_request_says_the_interval():
    asked = OrcaLoadReportRequest.FromString(orca.request(2.5))
    assert asked.report_interval.ToNanoseconds() == 2_500_000_000


@pytest.mark.parametrize("lie", [math.nan, math.inf, -math.inf, -1.0])
def test_what_is_no_number_from_0_on_counts_as_nothing(lie):
    report = OrcaLoadReport(rps_fractional=lie, eps=lie, named_metrics={"in_flight": lie})
    assert orca.decode(report.SerializeToString()) == LoadReport()


def test_a_boast_is_cut():
    report = OrcaLoadReport(
        cpu_utilization=1e308,
        application_utilization=1e308,
        rps_fractional=1e308,
        eps=1e308,
        named_metrics={"in_flight": 1e308, "latency": 1e308},
    )
    assert orca.decode(report.SerializeToString()) == LoadReport(
        100.0, 100.0, 1e9, 1e9, 1_000_000, 3600.0
    )


def test_garbage_is_refused():
    with pytest.raises(ProtocolError, match="OrcaLoadReport"):
        orca.decode(b"\xff\xff\xff")
