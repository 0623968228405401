"""Which methods may run more than once, as each kind of client is told.

trimtab clients read it from the Cluster's metadata. Native gRPC (gRFC A44) and Envoy have it as a retry
policy of routes by path; they know no hedging, and each retries by a budget of its own. HTTP methods are
trimtab clients' alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf import struct_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from trimtab.errors import ProtocolError
from trimtab.grpc_status import GRPC_CODES
from trimtab.model import Repeatable
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.cluster_policy import Json
from trimtab.xds.parsing import text_of

FIELD = "repeatable"
_RETRY_ON = {
    "CANCELLED": "cancelled",
    "DEADLINE_EXCEEDED": "deadline-exceeded",
    "INTERNAL": "internal",
    "RESOURCE_EXHAUSTED": "resource-exhausted",
    "UNAVAILABLE": "unavailable",
}
"""What gRFC A44 and Envoy's ``x-envoy-retry-grpc-on`` know."""
_MOST_ATTEMPTS = 5


def fields_of(repeatable: Repeatable) -> Json:
    """What a trimtab client is told."""
    fields: dict[str, Json] = {
        "methods": ",".join(repeatable.methods),
        "on": ",".join(repeatable.on),
        "attempts": float(repeatable.attempts),
        "budget": repeatable.budget,
    }
    if repeatable.hedge_after_s is not None:
        fields["hedge_after_s"] = repeatable.hedge_after_s
    if repeatable.hedge_quantile is not None:
        fields["hedge_quantile"] = repeatable.hedge_quantile
    return fields


def read_fields(metadata: Mapping[str, struct_pb2.Value]) -> Repeatable | None:
    """What a trimtab client was told; None: nothing.

    Raises:
        ProtocolError: a field is out of range.
    """
    if FIELD not in metadata:
        return None
    fields = metadata[FIELD].struct_value.fields
    methods = tuple(text_of(fields, "methods").split(","))
    if not all(methods):  # "" would be every method of every service
        raise ProtocolError(
            f"metadata {FIELD}.methods: {','.join(methods)!r:.60} has an empty name"
        )
    on = tuple(text_of(fields, "on").split(","))
    unknown = [name for name in on if name not in GRPC_CODES or name == "OK"]
    if unknown:
        raise ProtocolError(
            f"metadata {FIELD}.on: {unknown[0]!r:.60} is no gRPC status to retry on"
        )
    attempts = _number(fields, "attempts", 2, _MOST_ATTEMPTS)
    if attempts is None or not attempts.is_integer():
        raise ProtocolError(f"metadata {FIELD}.attempts: {attempts} is no whole number of 2 to 5")
    if "hedge_after_s" in fields and "hedge_quantile" in fields:
        raise ProtocolError(f"metadata {FIELD}.hedge_quantile: stands beside hedge_after_s")
    budget = _number(fields, "budget", 0, 1)
    return Repeatable(
        methods,
        on,
        int(attempts),
        _number(fields, "hedge_after_s", 0, 3600),
        _number(fields, "hedge_quantile", 0.01, 0.999),
        0.2 if budget is None else budget,
    )


def routes_of(repeatable: Repeatable | None) -> Iterator[tuple[wire.RouteMatch, wire.RetryPolicy]]:
    """The routes that go before the default one, each with its retry policy; most exact first."""
    policy = retry_policy(repeatable)
    if repeatable is None or policy is None:
        return
    paths = [name for name in repeatable.methods if name.startswith("/")]
    for path in sorted(paths, key=lambda path: path.endswith("/")):
        exact = not path.endswith("/")
        yield wire.RouteMatch(path=path) if exact else wire.RouteMatch(prefix=path), policy


def default_policy(repeatable: Repeatable | None) -> wire.RetryPolicy | None:
    """The retry policy of the default route; None: there is none."""
    everything = repeatable is not None and "*" in repeatable.methods
    return retry_policy(repeatable) if everything else None


def retry_policy(repeatable: Repeatable | None) -> wire.RetryPolicy | None:
    """What native gRPC and Envoy are told; None: nothing that they know."""
    on = [_RETRY_ON[name] for name in (repeatable.on if repeatable else ()) if name in _RETRY_ON]
    if repeatable is None or not on:
        return None
    retries = UInt32Value(value=repeatable.attempts - 1)
    return wire.RetryPolicy(retry_on=",".join(on), num_retries=retries)


def _number(
    fields: Mapping[str, struct_pb2.Value], name: str, low: float, high: float
) -> float | None:
    if name not in fields:
        return None
    number = fields[name].number_value
    if not low <= number <= high:
        raise ProtocolError(f"metadata {FIELD}.{name}: {number} is not from {low} to {high}")
    return number
