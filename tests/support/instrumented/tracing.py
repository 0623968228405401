"""OpenTelemetry's and Sentry's own instrumentation, with what they record in memory."""

import sentry_sdk
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class OpenTelemetry:
    """Args: the instrumentors."""

    header = "traceparent"

    def __init__(self, *instrumentors):
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        trace.set_tracer_provider(provider)
        for instrumentor in instrumentors:
            instrumentor.instrument()

    def during(self, action):
        """The spans that end while it runs, by name and URL; each must be a client's."""
        self._exporter.clear()
        action()
        spans = self._exporter.get_finished_spans()
        assert all(span.kind is trace.SpanKind.CLIENT for span in spans)
        return [f"{span.name} {span.attributes.get('http.url', '')}".rstrip() for span in spans]


class Sentry:
    """Args: the integrations."""

    header = "sentry-trace"

    def __init__(self, *integrations):
        sentry_sdk.init(
            dsn="http://nobody@127.0.0.1:1/1",
            integrations=integrations,
            traces_sample_rate=1.0,
            auto_enabling_integrations=False,
            default_integrations=False,
            transport=lambda _envelope: None,
        )

    def during(self, action):
        """The spans that begin while it runs, by description."""
        with sentry_sdk.start_transaction(name="test") as transaction:
            action()
            spans = transaction._span_recorder.spans
        return [span.description for span in spans if span is not transaction]
