"""``trimtab simulate``: its options, and what they are turned into."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from click.core import ParameterSource

from trimtab.cli.options import option, output_option

_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


@click.command(short_help="Compare policies in simulated time.")
@click.argument("scenario", required=False)
@option(
    "--list",
    "listed",
    is_flag=True,
    envvar="TRIMTAB_SIMULATE_LIST",
    help="Show the scenarios that come with trimtab.",
)
@option(
    "--policies",
    default="",
    metavar="NAME,NAME",
    envvar="TRIMTAB_SIMULATE_POLICIES",
    help="Compare these in place of the scenario's.",
)
@option(
    "--seeds",
    type=click.IntRange(min=1, max=100),
    metavar="N",
    envvar="TRIMTAB_SIMULATE_SEEDS",
    help="Run so many times, with seeds 1 to N, and show mean and standard deviation.",
)
@option(
    "--requests",
    type=click.IntRange(min=1, max=100_000_000),
    metavar="N",
    envvar="TRIMTAB_SIMULATE_REQUESTS",
    help="The length of a run, in requests.",
)
@option(
    "--pods-for",
    metavar="GOAL",
    envvar="TRIMTAB_SIMULATE_PODS_FOR",
    help="Search the fewest pods with which each policy reaches a goal such as 'p99<60ms'.",
)
@option(
    "--from-trace",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="TRIMTAB_SIMULATE_FROM_TRACE",
    help="Service times and arrivals of a recording: CSV or JSONL with time, latency [s], pod.",
)
@option(
    "--from-metrics",
    metavar="URL|FILE",
    envvar="TRIMTAB_SIMULATE_FROM_METRICS",
    help="Service times of a histogram in Prometheus' text format; a URL tells the rate as well.",
)
@option(
    "--metric",
    metavar="NAME",
    envvar="TRIMTAB_SIMULATE_METRIC",
    help="Which histogram, where there are several.",
)
@option(
    "--over",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    metavar="SECONDS",
    envvar="TRIMTAB_SIMULATE_OVER",
    help="The time between two looks at a URL.",
)
@option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    envvar="TRIMTAB_SIMULATE_RATE",
    help="Requests per second of all clients.",
)
@option(
    "--clients",
    type=click.IntRange(min=1, max=10_000),
    metavar="N",
    envvar="TRIMTAB_SIMULATE_CLIENTS",
    help="How many clients.",
)
@option(
    "--pods",
    type=click.IntRange(min=1, max=10_000),
    metavar="N",
    envvar="TRIMTAB_SIMULATE_PODS",
    help="How many pods.",
)
@option(
    "--workers",
    type=click.IntRange(min=1, max=10_000),
    metavar="N",
    envvar="TRIMTAB_SIMULATE_WORKERS",
    help="How many requests a pod serves at once.",
)
@option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="TRIMTAB_SIMULATE_JSON",
    help="Write the figures.",
)
@option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="TRIMTAB_SIMULATE_HTML",
    help="Write a page with charts, complete in one file.",
)
@output_option
def simulate(
    *,
    scenario: str | None,
    listed: bool,
    policies: str,
    seeds: int | None,
    requests: int | None,
    pods_for: str | None,
    from_trace: Path | None,
    from_metrics: str | None,
    metric: str | None,
    over: float,
    rate: float | None,
    clients: int | None,
    pods: int | None,
    workers: int | None,
    json_file: Path | None,
    html_file: Path | None,
    output: str,
) -> None:
    """Compare policies on a scenario: the production code, in simulated time.

    \b
    Examples:
      trimtab simulate --list
      trimtab simulate even-100x100
      trimtab simulate heterogeneous-antagonist --html het.html
      trimtab simulate dead-pod --policies p2c,token --seeds 3
      trimtab simulate reference-pods --pods-for 'p99<60ms'
      trimtab simulate mine.yaml --output json | jq '.policies[] | {label, p99_ms}'

    \b
    What would it save us?
      trimtab simulate --from-trace access.csv --pods 12 --clients 30
      trimtab simulate --from-metrics http://127.0.0.1:9090/metrics --pods 12

    SCENARIO is a name from --list, or a YAML file. With --from-trace or --from-metrics it may be
    left out; else it gives everything but service times and arrivals. Two rows are bounds: `random`, and what a
    chooser could do that knew the true state of every pod at every moment.
    """
    from trimtab.errors import ConfigError
    from trimtab.sim.command import Source, Wish, listing, prepared
    from trimtab.sim.command import simulate as run
    from trimtab.sim.observed import Known

    if listed:
        _show_list(listing(), output)
        return
    source = Source(from_trace, from_metrics, metric, over)
    known = Known(rate=rate, clients=clients, pods=pods, workers=workers)
    if scenario is None and not source:
        raise click.UsageError("say which scenario; --list shows those that come with trimtab")
    wish = Wish(
        policies=tuple(name.strip() for name in policies.split(",") if name.strip()),
        seeds=seeds,
        requests=requests,
        pods_for=pods_for,
        json=json_file,
        html=html_file,
        output=output,
        command=_command(click.get_current_context()),
    )
    try:
        name, found = prepared(scenario, source, known)
        run(name, found, wish)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _command(context: click.Context) -> str:
    """What was asked for, as one would type it, without where the results go."""
    words = ["trimtab", "simulate"]
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) in _GIVEN
        if given and name not in ("json_file", "html_file", "output"):
            option = parameter.opts[:1] if isinstance(parameter, click.Option) else []
            words += [*option, str(context.params[name])]
    return shlex.join(words)


def _show_list(found: list[tuple[str, str]], output: str) -> None:
    import json

    if output == "json":
        scenarios = [{"name": name, "title": title} for name, title in found]
        click.echo(json.dumps({"scenarios": scenarios}, indent=2))
        return
    width = max(len(name) for name, _ in found)
    for name, title in found:
        click.echo(f"{name:{width}}  {title}")
