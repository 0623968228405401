"""Load reports as text, in a trailer or a response header named ``endpoint-load-metrics``.

Form: ``TEXT name=value,name=value``, with the names of ``OrcaLoadReport``'s fields, those of a map with
the key after a dot: ``TEXT application_utilization=0.4,named_metrics.in_flight=3``. Envoy reads the same.
gRPC takes the binary trailer ``endpoint-load-metrics-bin`` away before Python sees it; hence text.
The same text answers ``PROBE``, a unary method that takes a ``google.protobuf.Empty`` and gives a
``google.protobuf.StringValue``. What is in flight, and what a request takes, have no field of their own; they are named metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue

from trimtab.load_report import LoadReport

HEADER = "endpoint-load-metrics"
BINARY_HEADER = "endpoint-load-metrics-bin"
PROBE = "/trimtab.v1.LoadReport/Get"
IN_FLIGHT = "in_flight"
LATENCY = "latency"

# A report can't say more than these: a lie must not spoil anybody's arithmetic.
_MOST = {
    "cpu_utilization": 100.0,
    "application_utilization": 100.0,
    "rps_fractional": 1e9,
    "eps": 1e9,
    f"named_metrics.{IN_FLIGHT}": 1e6,
    f"named_metrics.{LATENCY}": 3600.0,
}
_LONGEST = 4096  # characters; what is longer is no report of ours
_CACHED = 4096
_known: dict[str | bytes, LoadReport | None] = {}


def decode(text: str | bytes) -> LoadReport | None:
    """Read a report. Never raises: unknown names are passed by, bad values too.

    Returns None if there is nothing to read. Equal texts give the same object: servers round what
    they say, so most reports of a busy channel have been read before.
    """
    found = _known.get(text)
    if found is None and text not in _known:
        found = _decode(text)
        if len(_known) >= _CACHED:
            _known.clear()
        if len(text) <= _LONGEST:
            _known[text] = found
    return found


def _decode(text: str | bytes) -> LoadReport | None:
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    if len(text) > _LONGEST or not text.startswith("TEXT "):
        return None
    said: dict[str, float] = {}
    for part in text[5:].split(","):
        name, _, value = part.replace(":", "=", 1).partition("=")
        if name.strip() not in _MOST:
            continue
        try:
            said[name.strip()] = float(value)
        except ValueError:
            continue
    return report_of(said)


def report_of(values: Mapping[str, float]) -> LoadReport | None:
    """A report of values by name as in the text; numbers are cut to what can be true.

    Returns None if none of them says anything.
    """
    said = {
        name: min(values[name], most)
        for name, most in _MOST.items()
        if name in values and isfinite(values[name]) and values[name] >= 0.0
    }
    if not said:
        return None
    in_flight = said.get(f"named_metrics.{IN_FLIGHT}")
    return LoadReport(
        cpu_utilization=said.get("cpu_utilization", 0.0),
        application_utilization=said.get("application_utilization", 0.0),
        rps=said.get("rps_fractional", 0.0),
        eps=said.get("eps", 0.0),
        in_flight=None if in_flight is None else int(in_flight),
        latency=said.get(f"named_metrics.{LATENCY}") or None,
    )


def encode(report: LoadReport, named: Mapping[str, float] | None = None) -> str:
    """Write a report; numbers to two digits, which is what they are good for.

    Args:
        report: what goes into the fields.
        named: named metrics besides. Names that Envoy doesn't know make it drop the whole report,
            so nothing else can be added.
    """
    parts = [
        f"{name}={value:.2g}"
        for name, value in (
            ("cpu_utilization", report.cpu_utilization),
            ("application_utilization", report.application_utilization),
            ("rps_fractional", report.rps),
            ("eps", report.eps),
        )
        if value
    ]
    if report.in_flight is not None:
        parts.append(f"named_metrics.{IN_FLIGHT}={report.in_flight}")
    if report.latency is not None:
        parts.append(f"named_metrics.{LATENCY}={report.latency:.2g}")
    if named:
        parts.extend(f"named_metrics.{name}={value:.2g}" for name, value in named.items())
    return "TEXT " + ",".join(parts)


def encode_answer(text: str) -> bytes:
    """A report as the answer to ``PROBE``."""
    return StringValue(value=text).SerializeToString()


def decode_answer(message: bytes) -> LoadReport | None:
    """The report in an answer to ``PROBE``. Never raises; None if there is none to be read."""
    try:
        return decode(StringValue.FromString(message).value)
    except DecodeError:
        return None
