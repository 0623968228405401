"""Every metric of the control plane, in one table. docs/metrics.md explains each.

Label values come from bounded sets: resource types, kinds of client, transports, states. No label
carries a client's name. What clients report of their load names known clusters and endpoints, no
more than ``loads.MAX_ROWS`` of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from trimtab.discovery.kubernetes import metrics as kubernetes
from trimtab.telemetry import Metric
from trimtab.xds import type_urls
from trimtab.xds.server_client import ClientKind

# Change to sent: 1 ms is one quiet stream, 10-200 ms is batching, seconds are slow readers.
_PUSH_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0)

# From the pod's change itself, whose time Kubernetes writes in whole seconds: finer says nothing.
_EVENT_ACK_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)

# A busy loop is late by milliseconds; by seconds it is overloaded, and by a minute it is stuck.
_LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0)

STREAMS = "trimtab_streams"
STREAMS_HELD = "trimtab_streams_held"
STREAMS_TOTAL = "trimtab_streams_total"
STREAM_ENDS = "trimtab_stream_ends_total"
REQUESTS = "trimtab_requests_total"
RESPONSES = "trimtab_responses_total"
RESPONSE_BYTES = "trimtab_response_bytes_total"
ACKS = "trimtab_acks_total"
NACKS = "trimtab_nacks_total"
PUSHES = "trimtab_pushes_total"
CHANGES = "trimtab_changes_total"
CHANGES_HELD = "trimtab_changes_held_total"
PUSH_SECONDS = "trimtab_push_seconds"
EVENT_ACK_SECONDS = "trimtab_event_to_ack_seconds"
WRITE_DEADLINES = "trimtab_write_deadlines_total"
OVERSIZE = "trimtab_oversize_responses_total"
EXCEPTIONS = "trimtab_stream_exceptions_total"
PROTOCOL_ERRORS = "trimtab_protocol_errors_total"
CLUSTERS = "trimtab_clusters"
ENDPOINTS = "trimtab_endpoints"
EMPTY_CLUSTERS = "trimtab_empty_clusters"
PROBLEMS = "trimtab_problems_total"
SOURCE_SYNCED = "trimtab_source_synced"
CONTACT_AGE = "trimtab_source_contact_age_seconds"
FAILING = "trimtab_source_failing"
SOURCE_AGE = "trimtab_source_last_event_age_seconds"
READY = "trimtab_ready"
CERTIFICATE_END = "trimtab_certificate_end_timestamp_seconds"
CERTIFICATE_ENDS_SOON = "trimtab_certificate_ends_soon"
INSECURE = "trimtab_insecure_listener"
REFUSED = "trimtab_streams_refused_total"
ADMIN_REFUSED = "trimtab_admin_refused_total"
THROTTLED = "trimtab_requests_throttled_total"
CONFIG_RELOADS = "trimtab_config_reloads_total"
LOOP_LAG = "trimtab_event_loop_lag_seconds"
GC_PAUSE = "trimtab_gc_pause_seconds"
LOG_DROPPED = "trimtab_log_lines_dropped_total"
ON_TRUST = "trimtab_clusters_on_trust"
STATE_WRITES = "trimtab_state_writes_total"
LOAD_REPORTS = "trimtab_load_reports_total"
LOADS_REFUSED = "trimtab_load_reports_refused_total"
LOAD_REQUESTS = "trimtab_load_requests_total"
LOAD_ERRORS = "trimtab_load_errors_total"
LOAD_TIMED = "trimtab_load_timed_requests_total"
LOAD_SECONDS = "trimtab_load_latency_seconds_total"
LOAD_IN_FLIGHT = "trimtab_load_in_flight"
LOAD_MAX_TO_MEAN = "trimtab_load_max_to_mean"
LOAD_CV = "trimtab_load_cv"
SERVER_REQUESTS = "trimtab_load_server_requests_per_second"
SERVER_ERRORS = "trimtab_load_server_errors_per_second"
SERVER_IN_FLIGHT = "trimtab_load_server_in_flight"
SERVER_UTILIZATION = "trimtab_load_server_utilization"
SERVER_STREAMS = "trimtab_load_server_streams"
SERVER_FAILURES = "trimtab_load_server_failures_total"

METRICS: tuple[Metric, ...] = (
    Metric(READY, "gauge", "1 while xDS is answered, and not draining."),
    Metric(SOURCE_SYNCED, "gauge", "1 once a source delivered all it began with.", ("source",)),
    Metric(SOURCE_AGE, "gauge", "Seconds since a source last said anything.", ("source",)),
    Metric(
        CONTACT_AGE,
        "gauge",
        "Seconds since it was last confirmed that what is known of a source is current.",
        ("source",),
    ),
    Metric(FAILING, "gauge", "1 while a source can't be read.", ("source",)),
    Metric(PROBLEMS, "counter", "Rejected parts of the input.", ("source",)),
    Metric(CLUSTERS, "gauge", "Known clusters."),
    Metric(
        ON_TRUST,
        "gauge",
        "Clusters of the state file that their source has not confirmed.",
        ("source",),
    ),
    Metric(STATE_WRITES, "counter", "Writes of the state file.", ("result",)),
    Metric(EMPTY_CLUSTERS, "gauge", "Known clusters in which no endpoint may get a request."),
    Metric(ENDPOINTS, "gauge", "Known endpoints by health.", ("health",)),
    Metric(CHANGES, "counter", "Changes of a cluster's content."),
    Metric(CHANGES_HELD, "counter", "Changes that waited for a batching window."),
    Metric(PUSHES, "counter", "Streams that were woken because a cluster changed."),
    Metric(
        PUSH_SECONDS,
        "histogram",
        "Seconds from a change to a stream having been sent all of it.",
        (),
        _PUSH_BUCKETS_S,
    ),
    Metric(
        EVENT_ACK_SECONDS,
        "histogram",
        "Seconds from a change at its origin to a client having accepted it.",
        ("type", "client"),
        _EVENT_ACK_BUCKETS_S,
    ),
    Metric(STREAMS, "gauge", "Open streams.", ("service", "transport", "client")),
    Metric(
        STREAMS_HELD,
        "gauge",
        "Streams that are told nothing new of a type, as the client refused what it may have older.",
        ("type", "client"),
    ),
    Metric(STREAMS_TOTAL, "counter", "Streams opened.", ("service", "transport")),
    Metric(STREAM_ENDS, "counter", "Streams ended, by reason.", ("reason",)),
    Metric(REQUESTS, "counter", "Requests received, ACKs and NACKs included."),
    Metric(RESPONSES, "counter", "Responses sent.", ("type",)),
    Metric(RESPONSE_BYTES, "counter", "Bytes of responses sent.", ("type",)),
    Metric(OVERSIZE, "counter", "Responses above what native gRPC accepts.", ("type",)),
    Metric(ACKS, "counter", "Responses that a client accepted.", ("type", "client")),
    Metric(NACKS, "counter", "Responses that a client rejected.", ("type", "client")),
    Metric(PROTOCOL_ERRORS, "counter", "Streams ended because the client broke the protocol."),
    Metric(WRITE_DEADLINES, "counter", "Streams ended because the client did not read."),
    Metric(EXCEPTIONS, "counter", "Streams ended by a fault of the control plane itself."),
    Metric(INSECURE, "gauge", "1 if a port beyond loopback answers anybody.", ("port",)),
    Metric(CERTIFICATE_END, "gauge", "When the certificate of the ports ends, in Unix time."),
    Metric(
        CERTIFICATE_ENDS_SOON,
        "gauge",
        "1 while the certificate has less than 14 days left, and less than a fifth of its life.",
    ),
    Metric(REFUSED, "counter", "Streams refused before they began, by reason.", ("reason",)),
    Metric(ADMIN_REFUSED, "counter", "Admin pages refused, by reason.", ("reason",)),
    Metric(THROTTLED, "counter", "Requests that waited because their stream sent too many."),
    Metric(
        LOOP_LAG,
        "histogram",
        "Seconds by which the event loop comes too late, looked at twice a second.",
        (),
        _LAG_BUCKETS_S,
    ),
    Metric(
        GC_PAUSE,
        "histogram",
        "Seconds for which Python's garbage collector held up the process, each time.",
        (),
        _LAG_BUCKETS_S,
    ),
    Metric(LOG_DROPPED, "counter", "Lines of the log that were lost, as nobody read them."),
    Metric(CONFIG_RELOADS, "counter", "Times the configuration was read anew.", ("result",)),
    Metric(LOAD_REPORTS, "counter", "Load reports received.", ("client",)),
    Metric(LOADS_REFUSED, "counter", "Parts of load reports left out or cut.", ("reason",)),
    Metric(
        LOAD_REQUESTS,
        "counter",
        "Requests that clients say they sent.",
        ("cluster", "zone", "endpoint", "client"),
    ),
    Metric(
        LOAD_ERRORS,
        "counter",
        "Those that ended with an error.",
        ("cluster", "zone", "endpoint", "client"),
    ),
    Metric(
        LOAD_TIMED,
        "counter",
        "Requests whose clients say how long they took.",
        ("cluster", "zone", "endpoint", "client"),
    ),
    Metric(
        LOAD_SECONDS,
        "counter",
        "How long those took, together.",
        ("cluster", "zone", "endpoint", "client"),
    ),
    Metric(
        LOAD_IN_FLIGHT,
        "gauge",
        "Requests under way, on average over the last minute, as clients say.",
        ("cluster", "zone", "endpoint", "client"),
    ),
    Metric(LOAD_MAX_TO_MEAN, "gauge", "The busiest endpoint against the mean.", ("cluster",)),
    Metric(LOAD_CV, "gauge", "Coefficient of variation of endpoints' load.", ("cluster",)),
    Metric(
        SERVER_REQUESTS,
        "gauge",
        "Requests/s that an endpoint says it gets.",
        ("cluster", "zone", "endpoint"),
    ),
    Metric(
        SERVER_ERRORS,
        "gauge",
        "Errors/s that an endpoint says it gives.",
        ("cluster", "zone", "endpoint"),
    ),
    Metric(
        SERVER_IN_FLIGHT,
        "gauge",
        "Requests that an endpoint says it has.",
        ("cluster", "zone", "endpoint"),
    ),
    Metric(
        SERVER_UTILIZATION,
        "gauge",
        "How full an endpoint says it is; 1 is full.",
        ("cluster", "zone", "endpoint"),
    ),
    Metric(SERVER_STREAMS, "gauge", "Endpoints whose own reports are wanted.", ("state",)),
    Metric(SERVER_FAILURES, "counter", "Streams of such reports that failed.", ("reason",)),
    *kubernetes.METRICS,
)

_TYPES = tuple(map(type_urls.short, type_urls.ORDER))
_REFUSALS = (
    "no_token",
    "no_name",
    "refused",
    "audience",
    "unavailable",
    "pending",
    "streams",
    "streams_per_identity",
)

FROM_THE_START: Mapping[str, tuple[tuple[str, ...], ...]] = {
    NACKS: tuple(product(_TYPES, (kind.value for kind in ClientKind))),
    OVERSIZE: tuple((name,) for name in _TYPES),
    STATE_WRITES: (("written",), ("failed",)),
    REFUSED: tuple((reason,) for reason in _REFUSALS),
    CONFIG_RELOADS: (("applied",), ("rejected",)),
}
"""The labels of counters that alerts read: at 0 before anything happens, since to Prometheus a series that
begins at 1 has not increased. Those of a source are the source's own (``Store``, ``Reflector``)."""
