"""The clients' metrics and spans for OpenTelemetry: ``trimtab.otel.install()``, once, at start.

Needs the extra ``otel`` (the API; which SDK exports is the application's choice).
docs/guides/telemetry.md lists what there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    raise ImportError(
        "trimtab.otel needs opentelemetry-api: pip install 'trimtab[otel]'"
    ) from error

from trimtab.client import metrics as clients
from trimtab.client import observing
from trimtab.client.observing import LATENCY_BOUNDS_S, AttemptEnd, End, Names, Sent
from trimtab.telemetry import Metric

__all__ = ["install"]

_clock = time.monotonic  # noqa: TID251 - the door gives the clock
_wall_ns = time.time_ns
_installed: set[MeterProvider] = set()
_PREFIXES = {
    "trimtab_client_endpoint_": "trimtab.client.endpoint.",
    "trimtab_client_": "trimtab.client.",
    "grpc_subchannel_": "grpc.subchannel.",
    "grpc_xds_client_": "grpc.xds_client.",
}
_ATTRIBUTES = {
    "grpc_target": "grpc.target",
    "grpc_xds_server": "grpc.xds.server",
    "grpc_xds_resource_type": "grpc.xds.resource_type",
}
"""gRPC's own labels, as its gRFCs write them."""


def install(
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    *,
    spans: bool = True,
) -> Callable[[], None]:
    """Export what this process's clients do. Before the first channel is made.

    Args:
        meter_provider: None: the global one.
        tracer_provider: None: the global one.
        spans: whether each attempt gets a span, a child of the span that is current when it leaves.

    Returns:
        What ends the counting of requests. Instruments that read the channels' state last as long
        as their meter, since the API has no way to remove them; installing again adds none.
    """
    provider = meter_provider or metrics.get_meter_provider()
    meter = provider.get_meter("trimtab", version("trimtab"))
    if provider not in _installed:
        _installed.add(provider)
        _observe_state(meter)
    tracer = None
    if spans:
        tracer = (tracer_provider or trace.get_tracer_provider()).get_tracer(
            "trimtab", version("trimtab")
        )
    return observing.install(_Requests(meter, tracer))


class _State:
    """What the channels say of themselves: read once for a collection, not for each instrument."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._values: dict[str, dict[tuple[str, ...], float]] = {}

    def of(self, metric: Metric) -> Iterable[Observation]:
        """The values of one instrument; the second time it is asked begins a new collection."""
        if not self._values or metric.name in self._taken:
            self._values = {each.name: values for each, values in clients.read()}
            self._taken.clear()
        self._taken.add(metric.name)
        return [
            Observation(
                value,
                dict(zip((_ATTRIBUTES.get(n, n) for n in metric.labels), labels, strict=True)),
            )
            for labels, value in self._values[metric.name].items()
        ]


def _observe_state(meter: metrics.Meter) -> None:
    state = _State()
    for metric in clients.METRICS:

        def read(_options: CallbackOptions, metric: Metric = metric) -> Iterable[Observation]:
            return state.of(metric)

        name, unit = _name_of(metric)
        make = (
            meter.create_observable_counter
            if metric.kind == "counter"
            else meter.create_observable_gauge
        )
        make(name, callbacks=[read], unit=unit, description=metric.help)


def _name_of(metric: Metric) -> tuple[str, str]:
    """OpenTelemetry's way to write it: dots, the unit apart, no ``total``."""
    name = metric.name.removesuffix("_total")
    unit = "s" if name.endswith("_seconds") else "1"
    name = name.removesuffix("_seconds")
    for prefix, dotted in _PREFIXES.items():
        if name.startswith(prefix):
            return dotted + name.removeprefix(prefix), unit
    return name, unit


class _Requests:
    """An ``Observer`` that counts, times and traces."""

    def __init__(self, meter: metrics.Meter, tracer: trace.Tracer | None) -> None:
        bounds = list(LATENCY_BOUNDS_S)
        self._names = Names()
        self._tracer = tracer
        self._started = meter.create_counter(
            "grpc.client.attempt.started", "{attempt}", "Attempts that left for an endpoint."
        )
        self._attempts = meter.create_histogram(
            "grpc.client.attempt.duration",
            "s",
            "From the choice of an endpoint to the attempt's end.",
            explicit_bucket_boundaries_advisory=bounds,
        )
        self._calls = meter.create_histogram(
            "grpc.client.call.duration",
            "s",
            "Whole calls, all attempts included.",
            explicit_bucket_boundaries_advisory=bounds,
        )
        self._http = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "From the choice of an endpoint to the response's headers.",
            explicit_bucket_boundaries_advisory=bounds,
        )

    def attempt(self, sent: Sent) -> AttemptEnd:
        """See ``Observer``."""
        begin = _clock()
        traced = self._traced(sent)
        labels = {"grpc.method": self._names.of(sent.method), "grpc.target": sent.service}
        if sent.protocol == "grpc":
            self._started.add(1, labels)

        def end(status: str, *, more: bool = False) -> None:
            seconds = _clock() - begin
            if sent.protocol == "http":
                self._http.record(seconds, _http_labels(sent, status))
            else:
                ended = {**labels, "grpc.status": status}
                where = {
                    "grpc.lb.locality": sent.endpoint.locality.zone,
                    "grpc.lb.backend_service": sent.service,
                }
                self._attempts.record(seconds, {**ended, **where})
                if sent.alone and not more:
                    self._calls.record(seconds, ended)
            if traced is not None:
                traced(status)

        return end

    def call(self, service: str, method: str, before: float = 0.0) -> End:
        """See ``Observer``."""
        begin = _clock() - before
        labels = {"grpc.method": self._names.of(method), "grpc.target": service}

        def end(status: str) -> None:
            self._calls.record(_clock() - begin, {**labels, "grpc.status": status})

        return end

    def _traced(self, sent: Sent) -> End | None:
        """What makes the span when the attempt has ended: one that is forgotten leaves none open."""
        tracer = self._tracer
        if tracer is None:
            return None
        parent = context.get_current()
        begin = _wall_ns()
        reason = sent.reason  # who can be chosen changes until the end

        def end(status: str) -> None:
            grpc = sent.protocol == "grpc"
            bad = status != "OK" if grpc else not status.isdecimal() or status >= "4"
            attributes: dict[str, str | int] = {
                **_server(sent),
                "network.peer.address": sent.endpoint.address,
                "network.peer.port": sent.endpoint.port,
                "trimtab.zone": sent.endpoint.locality.zone,
                "trimtab.attempt": sent.number,
                "trimtab.reason": reason,
            }
            if grpc:
                attributes |= {
                    "rpc.system.name": "grpc",
                    "rpc.method": sent.method,
                    "rpc.response.status_code": status,
                }
            else:
                attributes["http.request.method"] = sent.method
                if status.isdecimal():
                    attributes["http.response.status_code"] = int(status)
                if sent.number > 1:
                    attributes["http.request.resend_count"] = sent.number - 1
            if bad:
                attributes["error.type"] = status
            span = tracer.start_span(
                sent.method,
                parent,
                SpanKind.CLIENT,
                attributes,
                start_time=begin,
            )
            if bad:
                span.set_status(Status(StatusCode.ERROR))
            span.end()

        return end


def _http_labels(sent: Sent, status: str) -> dict[str, str | int]:
    labels: dict[str, str | int] = {
        "http.request.method": sent.method,
        **_server(sent),
    }
    if status.isdecimal():
        labels["http.response.status_code"] = int(status)
    if not status.isdecimal() or status >= "4":
        labels["error.type"] = status
    return labels


def _server(sent: Sent) -> dict[str, str | int]:
    """The logical server; the endpoint is the network's peer (OpenTelemetry's conventions)."""
    host, port = sent.address
    return (
        {"server.address": host} if port is None else {"server.address": host, "server.port": port}
    )
