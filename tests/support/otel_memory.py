"""OpenTelemetry's SDK with all that it is told in memory."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import trimtab.otel


class Otel:
    """What ``trimtab.otel`` exports, while it is open."""

    def __init__(self):
        self._reader = InMemoryMetricReader()
        self._meters = MeterProvider([self._reader])
        self._exporter = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.remove = trimtab.otel.install(self._meters, self.traces)

    def points(self, name):
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def spans(self):
        return self._exporter.get_finished_spans()

    def close(self):
        self.remove()
        self._meters.shutdown()
        self.traces.shutdown()
