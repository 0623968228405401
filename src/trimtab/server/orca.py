"""Load reports in ORCA's binary form, ``xds.data.orca.v3.OrcaLoadReport``. Pure.

Written by hand, as it is written for each response: the message is doubles and maps of doubles.
Native gRPC's and Envoy's weighted round robin read it from the trailer
``endpoint-load-metrics-bin``, and from the out-of-band service.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from struct import Struct

from trimtab.load_codec import IN_FLIGHT, LATENCY
from trimtab.load_report import LoadReport

# Field numbers of xds/data/orca/v3/orca_load_report.proto.
_CPU_UTILIZATION = 1
_REQUEST_COST = 4
_RPS_FRACTIONAL = 6
_EPS = 7
_NAMED_METRICS = 8
_APPLICATION_UTILIZATION = 9

_FIXED64, _LENGTH = 1, 2  # protobuf's wire types
_double = Struct("<Bd").pack
_LONGEST_NAME = 100  # bytes, so that a map entry's lengths take one byte each


def encode_binary(report: LoadReport, named: Mapping[str, float] | None = None) -> bytes:
    """Write a report.

    Args:
        report: what goes into the fields; in-flight and latency become named metrics, as in text.
        named: named metrics besides.
    """
    parts = [
        _double(number << 3 | _FIXED64, value)
        for number, value in (
            (_CPU_UTILIZATION, report.cpu_utilization),
            (_RPS_FRACTIONAL, report.rps),
            (_EPS, report.eps),
            (_APPLICATION_UTILIZATION, report.application_utilization),
        )
        if value
    ]
    if report.in_flight is not None:
        parts.append(_entry(_NAMED_METRICS, IN_FLIGHT, report.in_flight))
    if report.latency is not None:
        parts.append(_entry(_NAMED_METRICS, LATENCY, report.latency))
    parts.extend(_entry(_NAMED_METRICS, name, value) for name, value in (named or {}).items())
    return b"".join(parts)


def encode_costs(costs: Mapping[str, float]) -> bytes:
    """Write what one request cost; to be appended to a report, as protobuf merges by appending."""
    return b"".join(_entry(_REQUEST_COST, name, cost) for name, cost in costs.items())


def encode_rates(requests: float, errors: float) -> bytes:
    """Write rates [1/s]; to be appended to a report, whose own they replace."""
    return _double(_RPS_FRACTIONAL << 3 | _FIXED64, requests) + _double(
        _EPS << 3 | _FIXED64, errors
    )


def check_name(name: str) -> str:
    """The name of a named metric or cost. Raises: ValueError if it can't be written."""
    if not name.replace("_", "").replace("-", "").replace(".", "").isalnum() or not name.isascii():
        raise ValueError(f"metric name {name!r}: use ASCII letters, digits, '_', '-' and '.'")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"metric name {name!r}: {len(name)} long, use at most {_LONGEST_NAME}")
    return name


def check_value(name: str, value: float) -> float:
    """What a report may carry. Raises: ValueError if it is negative, infinite or not a number."""
    if not isfinite(value) or value < 0.0:
        raise ValueError(f"metric {name!r}: {value!r} is no finite number from 0 on")
    return float(value)


def _entry(number: int, name: str, value: float) -> bytes:
    key = name.encode("ascii")
    body = bytes((1 << 3 | _LENGTH, len(key))) + key + _double(2 << 3 | _FIXED64, value)
    return bytes((number << 3 | _LENGTH, len(body))) + body
