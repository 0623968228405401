"""What open channels can say of themselves, read when somebody asks: requests pay nothing for it.

Counters never go back while their series lasts: what closed channels did is counted on, and an
endpoint that one of several channels has dropped stands still until the others have caught up.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

from trimtab.balancer import Balancer
from trimtab.client.forking import hold_across_forks
from trimtab.client.open_channels import Past, open_channels, past_of, pasts
from trimtab.telemetry import Metric

MOST_ENDPOINTS = 1000
"""Endpoints with series of their own, of the whole process; the rest are only counted together."""

_SERVICE = ("service",)
_ENDPOINT = ("service", "endpoint", "zone")
METRICS = (
    Metric("trimtab_client_channels", "gauge", "Open channels and HTTP clients.", _SERVICE),
    Metric(
        "trimtab_client_endpoints",
        "gauge",
        "Endpoints that channels have, by state.",
        ("service", "state"),
    ),
    Metric(
        "trimtab_client_endpoints_age_seconds",
        "gauge",
        "Since when a channel's list of endpoints has not changed; of several the oldest.",
        _SERVICE,
    ),
    Metric(
        "trimtab_client_policy_refused",
        "gauge",
        "Channels that were told a policy which they can't use.",
        _SERVICE,
    ),
    Metric(
        "trimtab_client_requests_total",
        "counter",
        "Attempts sent, by zone of the endpoint.",
        ("service", "zone"),
    ),
    Metric(
        "trimtab_client_zone_requests_total",
        "counter",
        "Attempts sent, by whether they left the client's zone: to its own, another, unknown.",
        ("service", "to"),
    ),
    Metric(
        "grpc_subchannel_open_connections",
        "gauge",
        "Endpoints that are connected (gRFC A94).",
        ("grpc_target",),
    ),
    Metric(
        "grpc_subchannel_connection_attempts_succeeded_total",
        "counter",
        "Connections that came about (gRFC A94).",
        ("grpc_target",),
    ),
    Metric(
        "grpc_subchannel_disconnections_total",
        "counter",
        "Connections that were lost or closed (gRFC A94).",
        ("grpc_target",),
    ),
    Metric("trimtab_client_endpoint_requests_total", "counter", "Attempts sent.", _ENDPOINT),
    Metric(
        "trimtab_client_endpoint_errors_total",
        "counter",
        "Those that the endpoint failed, refused or left without an answer.",
        _ENDPOINT,
    ),
    Metric(
        "trimtab_client_endpoint_latency_seconds_total",
        "counter",
        "How long those that have ended took, together.",
        _ENDPOINT,
    ),
    Metric("trimtab_client_endpoint_in_flight", "gauge", "Requests under way.", _ENDPOINT),
    Metric(
        "trimtab_client_endpoint_share",
        "gauge",
        "The part of its fair share that it gets, 0 to 1: slow start, errors.",
        _ENDPOINT,
    ),
    Metric(
        "trimtab_client_endpoints_unlisted",
        "gauge",
        "Endpoints beyond the first 1,000, which have no series of their own.",
    ),
)

Values = dict[str, dict[tuple[str, ...], float]]

_reading = threading.Lock()
hold_across_forks(_reading)


def read() -> Values:
    """By metric, the present value for each set of label values. From any thread."""
    with _reading:
        return _read()


def _read() -> Values:
    found: Values = {metric.name: defaultdict(float) for metric in METRICS}
    past = pasts()
    channels = open_channels()
    for service, each in past.items():
        _of_the_past(found, service, each)
    listed: set[tuple[str, str, str]] = set()
    unlisted: set[tuple[str, str, str]] = set()
    for balancer in channels:
        _of_channel(found, balancer)
        _of_endpoints(found, balancer, listed, unlisted)
    _never_back(found, listed)
    found["trimtab_client_endpoints_unlisted"][()] = len(unlisted)
    return found


def _of_the_past(found: Values, service: str, past: Past) -> None:
    for zone, picks in past.zones.items():
        found["trimtab_client_requests_total"][service, zone] += picks
    for to, picks in past.crossings.items():
        found["trimtab_client_zone_requests_total"][service, to] += picks
    if past.connects:
        found["grpc_subchannel_connection_attempts_succeeded_total"][service,] += past.connects
        found["grpc_subchannel_disconnections_total"][service,] += past.disconnects


def _of_channel(found: Values, balancer: Balancer) -> None:
    service = balancer.cluster
    nodes = list(balancer.nodes.values())
    found["trimtab_client_channels"][service,] += 1
    found["trimtab_client_policy_refused"][service,] += bool(balancer.policy_error)
    age = balancer.age
    if age is not None:
        ages = found["trimtab_client_endpoints_age_seconds"]
        ages[service,] = max(ages[service,], age)
    for state, n in Counter(map(balancer.state_of, nodes)).items():
        found["trimtab_client_endpoints"][service, state] += n
    for zone, picks in balancer.zone_picks.items():
        found["trimtab_client_requests_total"][service, zone] += picks
    for to, picks in balancer.zone_crossings.items():
        found["trimtab_client_zone_requests_total"][service, to] += picks
    if balancer.connects and balancer.tells_connections:
        made, lost = balancer.connects, balancer.disconnects
        found["grpc_subchannel_open_connections"][service,] += made - lost
        found["grpc_subchannel_connection_attempts_succeeded_total"][service,] += made
        found["grpc_subchannel_disconnections_total"][service,] += lost


def _of_endpoints(
    found: Values,
    balancer: Balancer,
    listed: set[tuple[str, str, str]],
    unlisted: set[tuple[str, str, str]],
) -> None:
    for node in list(balancer.nodes.values()):
        endpoint = node.endpoint
        labels = (balancer.cluster, endpoint.target, endpoint.locality.zone)
        if labels not in listed and len(listed) >= MOST_ENDPOINTS:
            unlisted.add(labels)
            continue
        shares = found["trimtab_client_endpoint_share"]
        shares[labels] = min(shares[labels], node.share) if labels in listed else node.share
        listed.add(labels)
        found["trimtab_client_endpoint_requests_total"][labels] += node.picks
        found["trimtab_client_endpoint_errors_total"][labels] += node.errors
        found["trimtab_client_endpoint_latency_seconds_total"][labels] += node.seconds
        found["trimtab_client_endpoint_in_flight"][labels] += node.in_flight


def _never_back(found: Values, listed: set[tuple[str, str, str]]) -> None:
    tables = [
        found[f"trimtab_client_endpoint_{name}_total"]
        for name in ("requests", "errors", "latency_seconds")
    ]
    for labels in listed:
        service, target, _ = labels
        past = past_of(service)
        before = past.endpoints.get(target, (0, 0, 0.0))
        now = [table[labels] + b for table, b in zip(tables, before, strict=True)]
        requests, errors, seconds = map(max, now, past.shown.get(target, (0.0, 0.0, 0.0)))
        past.shown[target] = shown = (requests, errors, seconds)  # a closing channel may replace it
        for table, value in zip(tables, shown, strict=True):
            table[labels] = value
    for service, each in pasts().items():
        each.keep({target for name, target, _ in listed if name == service})
