"""The clients' metrics for ``prometheus_client``: ``trimtab.prometheus.install()``, once, at start.

Needs the extra ``prometheus``. docs/guides/telemetry.md lists what there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "trimtab.prometheus needs prometheus_client: pip install 'trimtab[prometheus]'"
    ) from error

from trimtab.client import metrics, observing
from trimtab.client.observing import LATENCY_BOUNDS_S, AttemptEnd, End, Names, Sent

__all__ = ["install"]

_clock = time.monotonic  # noqa: TID251 - the door gives the clock


def install(registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Export what this process's clients do. Before the first channel is made.

    Args:
        registry: where the metrics go; ``prometheus_client``'s own by default.

    Returns:
        What takes the metrics away again.

    Raises:
        ValueError: the registry has them already.
    """
    collector = _State()
    per_request = _Requests(registry)
    registry.register(collector)
    remove = observing.install(per_request)

    def uninstall() -> None:
        remove()
        registry.unregister(collector)
        per_request.leave(registry)

    return uninstall


class _State(Collector):
    """What the channels say of themselves, at each scrape."""

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering asks nobody."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        for metric, values in metrics.read():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
            for labels, value in sorted(values.items()):
                family.add_metric(labels, value)
            yield family


class _Requests:
    """An ``Observer`` that counts and times."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._names = Names()
        self._started = Counter(
            "grpc_client_attempt_started",
            "Attempts that left for an endpoint (gRFC A66).",
            ("grpc_method", "grpc_target"),
            registry=registry,
        )
        self._attempts = Histogram(
            "grpc_client_attempt_duration_seconds",
            "From the choice of an endpoint to the attempt's end (gRFC A66).",
            ("grpc_method", "grpc_target", "grpc_status", "grpc_lb_locality"),
            buckets=LATENCY_BOUNDS_S,
            registry=registry,
        )
        self._calls = Histogram(
            "grpc_client_call_duration_seconds",
            "Whole calls, all attempts included (gRFC A66).",
            ("grpc_method", "grpc_target", "grpc_status"),
            buckets=LATENCY_BOUNDS_S,
            registry=registry,
        )
        self._http = Histogram(
            "http_client_request_duration_seconds",
            "From the choice of an endpoint to the response's headers (OpenTelemetry's name).",
            (
                "http_request_method",
                "server_address",
                "server_port",
                "http_response_status_code",
                "error_type",
            ),
            buckets=LATENCY_BOUNDS_S,
            registry=registry,
        )

    def leave(self, registry: CollectorRegistry) -> None:
        """Take them out of the registry."""
        for each in (self._started, self._attempts, self._calls, self._http):
            registry.unregister(each)

    def attempt(self, sent: Sent) -> AttemptEnd:
        """See ``Observer``."""
        method = self._names.of(sent.method)
        begin = _clock()
        if sent.protocol == "http":

            def end_http(status: str, *, more: bool = False) -> None:  # noqa: ARG001 - gRPC's
                answered = status.isdecimal()
                good = answered and status < "4"
                host, port = sent.address
                self._http.labels(
                    method, host, port or "", status if answered else "", "" if good else status
                ).observe(_clock() - begin)

            return end_http
        self._started.labels(method, sent.service).inc()

        def end(status: str, *, more: bool = False) -> None:
            seconds = _clock() - begin
            zone = sent.endpoint.locality.zone
            self._attempts.labels(method, sent.service, status, zone).observe(seconds)
            if sent.alone and not more:
                self._calls.labels(method, sent.service, status).observe(seconds)

        return end

    def call(self, service: str, method: str, before: float = 0.0) -> End:
        """See ``Observer``."""
        name = self._names.of(method)
        begin = _clock() - before

        def end(status: str) -> None:
            self._calls.labels(name, service, status).observe(_clock() - begin)

        return end
