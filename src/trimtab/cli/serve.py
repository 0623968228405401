"""``trimtab serve``: its options, and what they are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trimtab.cli.options import listening, option

if TYPE_CHECKING:
    from trimtab.control.config import Address

# How long the end waits for somebody to read the last lines of the log [s].
LAST_LINES_S = 2.0


@click.command(short_help="Run the control plane.")
@option(
    "--in-cluster",
    is_flag=True,
    envvar="TRIMTAB_SERVE_IN_CLUSTER",
    help="Read the cluster that this pod runs in. The default inside a pod.",
)
@option(
    "--kubeconfig",
    "kubeconfigs",
    multiple=True,
    metavar="[NAME=]FILE",
    envvar="TRIMTAB_SERVE_KUBECONFIG",
    help="Read the cluster of a kubeconfig file. Give it again for further clusters.",
)
@option(
    "--context",
    "contexts",
    multiple=True,
    metavar="NAME",
    envvar="TRIMTAB_SERVE_CONTEXT",
    help="Which context of the kubeconfig; several belong to the kubeconfigs in their order.",
)
@option(
    "--manifests",
    type=click.Path(path_type=Path),
    envvar="TRIMTAB_SERVE_MANIFESTS",
    help="File or directory of Service and EndpointSlice YAML or JSON; read again on change.",
)
@option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    envvar="TRIMTAB_SERVE_NAMESPACE",
    help="Read only this namespace; may be given again.  [default: all]",
)
@option(
    "--selector",
    default="",
    metavar="LABELS",
    envvar="TRIMTAB_SERVE_SELECTOR",
    help="Only Services with these labels, such as team=shop,tier!=test.",
)
@option(
    "--endpoint-range",
    "endpoint_ranges",
    multiple=True,
    metavar="CIDR",
    envvar="TRIMTAB_SERVE_ENDPOINT_RANGE",
    help="Only addresses in this range may be endpoints, such as 10.0.0.0/8; may be given again.  "
    "[default: all that are no loopback, link-local or multicast ones]",
)
@option(
    "--source-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    metavar="SECONDS",
    envvar="TRIMTAB_SERVE_SOURCE_TIMEOUT",
    help="With several clusters: how long the start waits for one that can't be read.",
)
@option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="TRIMTAB_SERVE_STATE",
    help="Keep what is known in this file; a start without the API server answers from it.",
)
@option(
    "--state-max-age",
    type=click.FloatRange(min=0),
    default=86_400.0,
    metavar="SECONDS",
    envvar="TRIMTAB_SERVE_STATE_MAX_AGE",
    help="A state file that is older is not believed.",
)
@option(
    "--state-after",
    type=click.FloatRange(min=0),
    default=5.0,
    metavar="SECONDS",
    envvar="TRIMTAB_SERVE_STATE_AFTER",
    help="How long the start waits for the sources before it answers from the state file.",
)
@option(
    "--hold-down",
    type=click.FloatRange(min=0),
    default=120.0,
    metavar="SECONDS",
    envvar="TRIMTAB_SERVE_HOLD_DOWN",
    help="A list that lacks a fifth of the known endpoints (five at least, or all), or over half of one "
    "Service's (five at least), is not believed for so long; 0: at once.",
)
@option(
    "--xds",
    callback=listening,
    metavar="HOST:PORT",
    default="127.0.0.1:18000",
    envvar="TRIMTAB_SERVE_XDS",
    help="Where clients connect; :PORT is every interface, by IPv4 and IPv6. Port 0 takes any free one.",
)
@option(
    "--admin",
    callback=listening,
    metavar="HOST:PORT",
    default="127.0.0.1:18001",
    envvar="TRIMTAB_SERVE_ADMIN",
    help="Where /healthz, /readyz, /metrics and /api/v1 are; :PORT as above.",
)
@option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="TRIMTAB_SERVE_CONFIG",
    help="YAML: clusters (names, as above), authorization, admin_readers, status_readers, admin_hosts, "
    "limits, load_reports, out_of_band.",
)
@option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    envvar="TRIMTAB_SERVE_TLS_CERT",
    help="PEM certificate chain of the xDS port, and of admin pages that need a token; read again "
    "when it changes.",
)
@option(
    "--tls-key",
    type=click.Path(path_type=Path),
    envvar="TRIMTAB_SERVE_TLS_KEY",
    help="Its PEM private key.",
)
@option(
    "--tls-client-ca",
    type=click.Path(path_type=Path),
    envvar="TRIMTAB_SERVE_TLS_CLIENT_CA",
    help="Clients need a certificate of these authorities (mTLS); its SPIFFE id is who they are.",
)
@option(
    "--token-audience",
    default="",
    metavar="NAME",
    envvar="TRIMTAB_SERVE_TOKEN_AUDIENCE",
    help="Clients need a Kubernetes ServiceAccount token for this audience.",
)
@option(
    "--tokens",
    type=click.Path(path_type=Path),
    envvar="TRIMTAB_SERVE_TOKENS",
    help="Clients need a token of this file. For tests and development.",
)
@option(
    "--admin-token-audience",
    default="",
    metavar="NAME",
    envvar="TRIMTAB_SERVE_ADMIN_TOKEN_AUDIENCE",
    help="Admin pages need a Kubernetes ServiceAccount token for this audience, of a subject that "
    "admin_readers in --config names. Not /healthz and /readyz.",
)
@option(
    "--admin-tokens",
    type=click.Path(path_type=Path),
    envvar="TRIMTAB_SERVE_ADMIN_TOKENS",
    help="Admin pages need a token of this file.",
)
@option(
    "--open-metrics",
    is_flag=True,
    envvar="TRIMTAB_SERVE_OPEN_METRICS",
    help="/metrics needs no token. It names Services, and endpoints that clients report load of.",
)
@option(
    "--insecure",
    is_flag=True,
    envvar="TRIMTAB_SERVE_INSECURE",
    help="Allow ports that know nobody beyond loopback. Whoever reaches them reads everything.",
)
@option(
    "--drain",
    type=click.FloatRange(min=0),
    default=5.0,
    metavar="SECONDS",
    envvar="TRIMTAB_SERVE_DRAIN",
    help="On SIGTERM, end the streams spread over so many seconds. A second SIGTERM is quick.",
)
@option(
    "--write-deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    metavar="SECONDS",
    envvar="TRIMTAB_SERVE_WRITE_DEADLINE",
    help="End a stream whose client does not take one message within so many seconds.",
)
@option(
    "--seed",
    type=int,
    envvar="TRIMTAB_SERVE_SEED",
    help="Make the order in which streams are drained repeatable.",
)
@option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    envvar="TRIMTAB_SERVE_LOG_LEVEL",
    help="The least important lines to log.",
)
@option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="TRIMTAB_SERVE_LOG_FORMAT",
    help="Log lines for people, or one JSON object a line.",
)
def serve(
    *,
    in_cluster: bool,
    kubeconfigs: tuple[str, ...],
    contexts: tuple[str, ...],
    manifests: Path | None,
    namespaces: tuple[str, ...],
    selector: str,
    endpoint_ranges: tuple[str, ...],
    source_timeout: float,
    state: Path | None,
    state_max_age: float,
    state_after: float,
    hold_down: float,
    xds: Address,
    admin: Address,
    config: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    token_audience: str,
    tokens: Path | None,
    admin_token_audience: str,
    admin_tokens: Path | None,
    open_metrics: bool,
    insecure: bool,
    drain: float,
    write_deadline: float,
    seed: int | None,
    log_level: str,
    log_format: str,
) -> None:
    """Tell clients where the endpoints are: trimtab's own, native gRPC and Envoy, over xDS v3.

    \b
    Endpoints come from one of:
      trimtab serve --in-cluster                        the cluster around this pod
      trimtab serve --context staging                   a cluster that kubectl knows
      trimtab serve --kubeconfig east=a.yaml --kubeconfig west=b.yaml
                                                        several clusters as one: a Service of the
                                                        same name is the same; a lost one keeps what
                                                        was last known of it
      trimtab serve --manifests manifests/              files, for trying it and for tests

    \b
    Try it:
      trimtab serve --manifests manifests/
      GRPC_XDS_BOOTSTRAP_CONFIG="$(trimtab bootstrap --for grpc)" python client.py
      # in client.py: grpc.insecure_channel("xds:///orders.shop:grpc")

    A Service port is known as SERVICE.NAMESPACE:PORT, where PORT is the number or the name, and
    under the usual shorter and longer forms. Names that existing clients ask for go into --config:

    \b
      clusters:
      - {name: ratelimit-eds, namespace: ratelimit, service: ratelimit-headless, port: 1081}

    One line on stderr says when clients are answered, and where. Nothing is answered before
    everything was read once. What breaks later, a file or the API server, leaves its last known
    state in use.
    """
    import asyncio

    from trimtab.control.config import Config, load_config
    from trimtab.control.last_known import StateOptions
    from trimtab.control.log_lines import LogLines, keep_stderr_from_blocking
    from trimtab.control.logs import announcement, set_up_logs
    from trimtab.control.security import SecurityOptions
    from trimtab.control.serve import ServeOptions, serve
    from trimtab.control.sources import SourceOptions, named_sources, token_reviewer
    from trimtab.control.tls import TlsFiles
    from trimtab.discovery.addresses import endpoint_range
    from trimtab.discovery.manifest_files import ManifestFiles
    from trimtab.errors import ConfigError, DiscoveryError

    keep_stderr_from_blocking()
    lines = LogLines()
    click.get_current_context().call_on_close(lambda: lines.close(LAST_LINES_S))
    set_up_logs(log_level, log_format, lines)
    if bool(tls_cert) != bool(tls_key) or (tls_client_ca and not tls_cert):
        raise click.UsageError("--tls-cert and --tls-key belong together, --tls-client-ca to both")
    try:
        ranges = tuple(map(endpoint_range, endpoint_ranges))
    except ValueError as error:
        raise click.UsageError(f"--endpoint-range: {error}") from None
    wanted = SourceOptions(
        manifests, in_cluster, kubeconfigs, contexts, namespaces, selector, hold_down, ranges
    )
    try:
        reviewer = token_reviewer(wanted) if token_audience or admin_token_audience else None
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    options = ServeOptions(
        xds=xds,
        admin=admin,
        config=load_config(config) if config else Config(),
        config_file=config,
        security=SecurityOptions(
            TlsFiles(tls_cert, tls_key, tls_client_ca) if tls_cert and tls_key else None,
            tokens,
            token_audience,
            reviewer,
            admin_tokens,
            admin_token_audience,
            open_metrics,
        ),
        insecure=insecure,
        drain_s=drain,
        write_deadline_s=write_deadline,
        seed=seed,
        source_timeout_s=source_timeout,
        state=StateOptions(state, state_max_age, state_after, ranges),
        hold_s=hold_down,
        dropped_lines=lambda: lines.dropped,
    )
    try:
        options.check()
        sources = named_sources(wanted)
        if manifests is not None:
            ManifestFiles(manifests, lambda _problem: None).require()
    except (ConfigError, DiscoveryError) as error:
        raise click.UsageError(str(error)) from None
    asyncio.run(serve(options, sources, lambda text: lines.put(announcement(text, log_format))))
