"""The command line: arguments in, calls out. Modules are imported by the command that needs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trimtab.cli.options import addresses, admin_server, option, output_option
from trimtab.cli.serve import serve
from trimtab.cli.simulate import simulate

if TYPE_CHECKING:
    from trimtab.control.admin_client import AdminServer
    from trimtab.control.config import Address

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="trimtab", message="trimtab %(version)s")
def cli() -> None:
    """Spread gRPC and HTTP requests evenly over the pods of a Kubernetes service.

    \b
    See it work, no Kubernetes needed:      trimtab demo
    Run a control plane in a cluster:       trimtab serve --in-cluster
    ... or on manifests:                    trimtab serve --manifests manifests/
    What it knows, and who is connected:    trimtab endpoints; trimtab clients
    Why a client uses these pods:           trimtab why orders.shop:grpc
    What load there is, and how evenly:     trimtab top
    Tell a client where it is:              trimtab bootstrap --for grpc
    Find mistakes before they are used:     trimtab check manifests/
    Compare policies before you choose:     trimtab simulate even-100x100

    Every option can be set by the environment variable that its help names.
    Exit codes: 0 ok; 1 it failed, or found what is wrong (check); 2 wrong use: an option, an environment
    variable or a file that they name.
    """


cli.add_command(serve)
cli.add_command(simulate)


@cli.command(short_help="What the control plane knows.")
@click.argument("name", required=False)
@admin_server
@output_option
def endpoints(name: str | None, server: AdminServer, output: str) -> None:
    """List the clusters of a running control plane, or the endpoints of one.

    \b
    Examples:
      trimtab endpoints
      trimtab endpoints orders.shop:grpc
      trimtab endpoints --output json | jq '.clusters[].name'

    NAME may be any name that a client may use. Parts of the input that were rejected lately are
    listed below the table, on stderr; their last good state stays in use until they are mended.
    """
    from trimtab.control.admin_client import ask

    answer = ask(server, "/api/v1/clusters", **({"name": name} if name else {}))
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
        return
    from trimtab.control import tables

    console = tables.console()
    console.print(tables.clusters_table(answer["clusters"]))
    if name:
        console.print()
        console.print(tables.endpoints_table(answer["clusters"][0]))
    if not answer["synced"]:
        click.echo("not synced yet: clients are not answered before everything was read", err=True)
    for line in tables.source_lines(answer["sources"]):
        click.echo(line, err=True)
    for problem in answer["problems"]:
        click.echo(
            f"rejected {tables.duration(problem['age_seconds'])} ago: {problem['text']}", err=True
        )


@cli.command(short_help="Which endpoints a client gets, and why.")
@click.argument("name")
@option("--from", "zone", default="", metavar="ZONE", envvar="TRIMTAB_ZONE", help="Its zone.")
@option(
    "--service",
    default="",
    metavar="SERVICE.NAMESPACE",
    envvar="TRIMTAB_SERVICE",
    help="The Service that it is part of.",
)
@admin_server
@output_option
def why(name: str, zone: str, service: str, server: AdminServer, output: str) -> None:
    """Say which endpoints of NAME a client in a zone uses, and why not the others.

    \b
    Examples:
      trimtab why orders.shop:grpc --from eu-1a
      trimtab why orders.shop:grpc --from eu-1a --service front.shop
      trimtab why orders.shop --output json | jq '.endpoints[] | select(.used | not)'

    "split" is how the client's requests are spread over zones: by the pods of its Service and of
    NAME. trimtab's clients begin with it and move it by latency; native gRPC and Envoy keep to it.

    Below the table: who subscribes to it, and whether they accepted what they were sent.
    """
    from trimtab.control.admin_client import ask

    answer = ask(server, "/api/v1/why", name=name, zone=zone, service=service)
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
        return
    from trimtab.control import tables

    console = tables.console()
    for line in tables.why_lines(answer):
        click.echo(line)
    click.echo()
    console.print(tables.why_table(answer))
    click.echo()
    if answer["subscribers"]:
        console.print(tables.clients_table(answer["subscribers"]))
    else:
        click.echo("no client subscribes to it here")
    for rejected in tables.nacks(answer["subscribers"]):
        console.print(rejected)
    for line in tables.source_lines(answer["sources"]):
        click.echo(line, err=True)


@cli.command(short_help="What load there is, and how evenly.")
@admin_server
@output_option
def top(server: AdminServer, output: str) -> None:
    """List the clusters that clients or servers report load of, the busiest first.

    \b
    Examples:
      trimtab top
      trimtab top --output json | jq '.clusters[0].rows'
      watch trimtab top

    Over the last minute, as far as this replica was told. LATENCY is the mean of trimtab's own
    clients ("-": none of them called). MAX/MEAN is the busiest usable endpoint
    against the mean, CV the standard deviation against the mean; 1 and 0 are even, "-" means that
    no client tells endpoints apart. BY says whose word it is: kinds of clients, or "servers" where a
    Service asks for that (trimtab.dev/load-reports) and more than half of its endpoints answer.
    """
    from trimtab.control.admin_client import ask

    answer = ask(server, "/api/v1/load")
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
        return
    from trimtab.control import tables

    tables.console().print(tables.load_table(answer["clusters"]))
    if not answer["clusters"]:
        click.echo("nobody has reported load to this replica in the last minute", err=True)


@cli.command(short_help="Who is connected, and what they accepted.")
@option(
    "--node",
    default="",
    metavar="ID",
    envvar="TRIMTAB_CLIENTS_NODE",
    help="Only the client with this node id.",
)
@admin_server
@output_option
def clients(node: str, server: AdminServer, output: str) -> None:
    """List the clients of a running control plane, and what they accepted or rejected.

    \b
    Examples:
      trimtab clients
      trimtab clients --node my-pod
      trimtab clients --output json | jq '.clients[] | select(.kind == "envoy")'

    A resource is `sent`, then `acked` by the client, or `nacked`: then the client keeps what it
    had, and its reason is printed below the table. `absent`: no Service port has that name, or the
    client may not see it; if `trimtab endpoints` lists it, annotate the Service trimtab.dev/export-to,
    or add a rule to `authorization` in the file behind `trimtab serve --config`.
    Times are since when: of several resources, the one that changed last.
    """
    from trimtab.control.admin_client import ask

    answer = ask(server, "/api/v1/clients", **({"node": node} if node else {}))
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
        return
    from trimtab.control import tables

    console = tables.console()
    console.print(tables.clients_table(answer["clients"]))
    if not answer["clients"]:
        called = f" called {node}" if node else ""
        click.echo(f"no client{called} is connected to this replica", err=True)
    for line in tables.nacks(answer["clients"]):
        console.print(line)


@cli.command(short_help="Find mistakes before they are used.")
@click.argument("path", type=click.Path(path_type=Path))
@option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="TRIMTAB_CHECK_CONFIG",
    help="The file that `trimtab serve` will get as --config.",
)
@option(
    "--strict",
    is_flag=True,
    envvar="TRIMTAB_CHECK_STRICT",
    help="Exit 1 on warnings too.",
)
@output_option
def check(path: Path, config: Path | None, strict: bool, output: str) -> None:
    """Read manifests as `trimtab serve` would, and list what it would reject. Exits 1 if anything.

    \b
    Examples:
      trimtab check manifests/
      trimtab check manifests/ --config trimtab.yaml --output json
      trimtab check manifests/ --strict

    PATH is a file or a directory, as for `trimtab serve --manifests`. With --config, that file is
    checked too, and whether the Services that it names are there. A warning is something that is
    taken, but may not be meant; with --strict it fails the check as well.
    """
    import sys

    from trimtab.control.config import Config, load_config, unknown_services
    from trimtab.discovery.check import check as read
    from trimtab.errors import ConfigError, DiscoveryError

    names = load_config(config) if config else Config()
    try:
        result = read(path)
    except DiscoveryError as error:
        raise ConfigError(str(error)) from None
    warnings = [*result.warnings, *unknown_services(names, result.snapshots)]
    if output == "json":
        from trimtab.control.views import check_view

        click.echo(json.dumps(check_view(result, warnings), indent=2))
    else:
        for snapshot in result.snapshots:
            counts = ", ".join(f"{n} {h.value}" for h, n in snapshot.counts().items() if n)
            click.echo(f"{snapshot.cluster}: {counts or 'no endpoints'}")
        for kind, found in (("warning", warnings), ("rejected", result.problems)):
            for problem in found:
                click.echo(f"{kind}: {problem}", err=True)
        click.echo(
            f"clusters: {len(result.snapshots)}, endpoints: {result.endpoints}, "
            f"files: {result.files}, rejected: {len(result.problems)}, warnings: {len(warnings)}"
        )
    sys.exit(1 if result.problems or (strict and warnings) else 0)


@cli.command(short_help="Print a client's configuration.")
@option(
    "--for",
    "kind",
    type=click.Choice(["grpc", "envoy", "envoy-secret", "trimtab"]),
    required=True,
    envvar="TRIMTAB_BOOTSTRAP_FOR",
    help="The kind of client.",
)
@option(
    "--server",
    "servers",
    callback=addresses,
    metavar="HOST:PORT",
    default="127.0.0.1:18000",
    envvar="TRIMTAB_CONTROL_PLANE",
    help="The --xds address of the control plane, as the client reaches it. Not for Envoy: several "
    "with commas, of which the first that answers is asked.",
)
@option(
    "--node-id",
    default="",
    envvar="TRIMTAB_NODE_ID",
    help="Who the client is: unique per process, such as its pod's name.",
)
@option(
    "--zone",
    default="",
    envvar="TRIMTAB_ZONE",
    help="The zone that it runs in.",
)
@option(
    "--namespace",
    default="",
    envvar="TRIMTAB_NAMESPACE",
    help="Its Kubernetes namespace: completes names such as orders:grpc.",
)
@option(
    "--service",
    default="",
    metavar="SERVICE[.NAMESPACE]",
    envvar="TRIMTAB_SERVICE",
    help="The Service that it is part of: requests are split over zones by where its pods are.",
)
@option(
    "--node-name",
    default="",
    envvar="TRIMTAB_NODE_NAME",
    help="Its Kubernetes node, in place of --zone: the control plane looks up the zone.",
)
@option(
    "--ca",
    default="",
    metavar="FILE",
    envvar="TRIMTAB_CA",
    help="TLS: the PEM file, where the client runs, of who vouches for the control plane.",
)
@option(
    "--token-file",
    default="",
    metavar="FILE",
    envvar="TRIMTAB_TOKEN_FILE",
    help="With --ca: the file, where the client runs, of the token that it sends.",
)
@option(
    "--certificate",
    default="",
    metavar="FILE",
    envvar="TRIMTAB_CERTIFICATE",
    help="With --ca: the PEM file, where the client runs, of its own certificate chain.",
)
@option(
    "--key",
    default="",
    metavar="FILE",
    envvar="TRIMTAB_KEY",
    help="The PEM file of its private key.",
)
@option(
    "--secret-file",
    default="",
    metavar="FILE",
    envvar="TRIMTAB_SECRET_FILE",
    help="With --for envoy and --token-file: the file, where Envoy runs, of what --for envoy-secret prints.",
)
@option(
    "--routes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="TRIMTAB_ROUTES",
    help="With --for envoy: listeners and routes, for a whole edge.",
)
@option(
    "--endpoints-only",
    is_flag=True,
    envvar="TRIMTAB_ENDPOINTS_ONLY",
    help="With --routes: take endpoints from trimtab (EDS), but no clusters.",
)
def bootstrap(
    kind: str,
    servers: tuple[Address, ...],
    node_id: str,
    zone: str,
    namespace: str,
    service: str,
    node_name: str,
    ca: str,
    token_file: str,
    certificate: str,
    key: str,
    secret_file: str,
    routes: Path | None,
    endpoints_only: bool,
) -> None:
    """Print what a client needs to find the control plane, ready to use.

    \b
    Native gRPC, any language:
      trimtab bootstrap --for grpc --node-id "$HOSTNAME" > bootstrap.json
      GRPC_XDS_BOOTSTRAP=bootstrap.json python client.py
    Envoy:
      trimtab bootstrap --for envoy --node-id ingress-1 > envoy.yaml && envoy -c envoy.yaml
    Envoy as an edge, with listeners and routes:
      trimtab bootstrap --for envoy --routes routes.yaml > envoy.yaml
    A trimtab client (it reads gRPC's bootstrap too):
      eval "$(trimtab bootstrap --for trimtab --server trimtab.trimtab-system:18000)"
    With TLS and the client's token, or its certificate:
      trimtab bootstrap --for grpc --ca /trimtab/ca.crt --token-file /trimtab/token > bootstrap.json
      trimtab bootstrap --for envoy --ca /tls/ca.crt --certificate /tls/tls.crt --key /tls/tls.key
    Envoy with a token, which it reads through a file of its own:
      trimtab bootstrap --for envoy-secret --token-file /trimtab/token > secret.yaml
      trimtab bootstrap --for envoy --ca /trimtab/ca.crt --token-file /trimtab/token --secret-file secret.yaml
    """
    from trimtab.control import bootstraps
    from trimtab.control.trust import Trust
    from trimtab.errors import ConfigError

    if kind == "envoy-secret":
        click.echo(bootstraps.secret_file(token_file), nl=False)
        return
    identity = bootstraps.Identity(node_id, zone, namespace, service, node_name)
    if kind != "envoy" and routes is not None:
        raise click.UsageError(f"--routes {routes}: is for --for envoy")
    if kind == "envoy" and len(servers) > 1:
        given = ",".join(map(str, servers))
        raise click.UsageError(
            f"--server {given}: an Envoy takes one address; give a name that leads to all replicas"
        )
    if endpoints_only and routes is None:
        raise click.UsageError("--endpoints-only: says nothing without --routes FILE")
    try:
        trust = Trust(ca, token_file, certificate, key, secret_file)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if routes is not None:
        text = bootstraps.edge_bootstrap(
            servers[0], identity, routes, endpoints_only=endpoints_only, trust=trust
        )
    elif kind == "envoy":
        text = bootstraps.envoy_bootstrap(servers[0], identity, trust)
    elif kind == "grpc":
        text = bootstraps.grpc_bootstrap(servers, identity, trust)
    else:
        text = bootstraps.trimtab_bootstrap(servers, identity, trust)
    click.echo(text, nl=False)


@cli.command(short_help="See it work on this machine, in half a minute.")
@click.option(
    "--seconds",
    type=float,
    default=24.0,
    show_default=True,
    envvar="TRIMTAB_DEMO_SECONDS",
    show_envvar=True,
    help="How long to send requests, all four phases together; starting and draining come on top.",
)
@click.option(
    "--seed",
    type=int,
    default=13,
    show_default=True,
    envvar="TRIMTAB_DEMO_SEED",
    show_envvar=True,
    help="Which requests come when, and which servers the pinned channels get (13 is typical).",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="TRIMTAB_DEMO_JSON",
    show_envvar=True,
    help="Write the figures.",
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="TRIMTAB_DEMO_HTML",
    show_envvar=True,
    help="Write a page with charts, complete in one file.",
)
@click.option(
    "--svg",
    "svg_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="TRIMTAB_DEMO_SVG",
    show_envvar=True,
    help="Write a picture of before and after.",
)
def demo(
    seconds: float, seed: int, json_file: Path | None, html_file: Path | None, svg_file: Path | None
) -> None:
    """Send the same requests through four kinds of channels, and compare. No Kubernetes needed.

    \b
    Eight real gRPC servers, the real control plane and twenty channels, all on this machine:
      pinned              each channel keeps the server it connected to, as behind kube-proxy
      round_robin_stale   native round robin over the servers of connect time
      round_robin         native round robin, told of new servers at once
      trimtab             this project

    \b
    Examples:
      trimtab demo
      trimtab demo --seconds 90 --seed 7 --html demo.html --json demo.json
    """
    import sys

    from trimtab.demo.command import demo as run_demo

    sys.exit(run_demo(seconds=seconds, seed=seed, json=json_file, html=html_file, svg=svg_file))


def run() -> None:
    """Run the command line. Errors of ours are one line on stderr, and exit code 2 or 1."""
    import sys

    from trimtab.errors import ConfigError, TrimtabError

    try:
        cli(prog_name="trimtab")
    except TrimtabError as error:
        click.echo(f"trimtab: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
