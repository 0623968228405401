"""The reader's side of load reports out of band (``xds.service.orca.v3.OpenRcaService``). Pure."""

from __future__ import annotations

from google.protobuf import duration_pb2

from trimtab.load_codec import IN_FLIGHT, LATENCY, report_of
from trimtab.load_report import LoadReport
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.parsing import parsed

METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
MAX_REPORT_BYTES = 64 << 10


def request(interval_s: float) -> bytes:
    """Ask for a report per ``interval_s`` [s]; servers have a least interval of their own."""
    interval = duration_pb2.Duration()
    interval.FromNanoseconds(int(interval_s * 1e9))
    return wire.OrcaLoadReportRequest(report_interval=interval).SerializeToString()


def decode(body: bytes) -> LoadReport:
    """Read a report; numbers are cut to what can be true, what is no number from 0 on counts as 0.

    Raises:
        ProtocolError: the bytes are no report.
    """
    message = parsed(wire.OrcaLoadReport, body)
    values = {
        "cpu_utilization": message.cpu_utilization,
        "application_utilization": message.application_utilization,
        "rps_fractional": message.rps_fractional,
        "eps": message.eps,
    }
    named = message.named_metrics
    values |= {
        f"named_metrics.{name}": named[name] for name in (IN_FLIGHT, LATENCY) if name in named
    }
    return report_of(values) or LoadReport()
