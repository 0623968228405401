"""What the demo's lines mean, in words; the terminal and the page say the same.

A sentence names what differs between two modes and by how much. None says which is better.
"""

from __future__ import annotations

from typing import NamedTuple

from trimtab.demo.experiment import Mode
from trimtab.demo.figures import ENOUGH_FOR_P999, Figures
from trimtab.demo.report import BUSY_MS, Report, Setting

PICKS = {
    Mode.PINNED: "each channel stays with one server, drawn when it connected (kube-proxy)",
    Mode.ROUND_ROBIN_STALE: "native gRPC round_robin per request",
    Mode.ROUND_ROBIN: "native gRPC round_robin per request",
    Mode.TRIMTAB: "trimtab per request: the server that lately answered soonest, each answer used once",
}
KNOWS = {
    Mode.PINNED: "the {first} servers of connect time",
    Mode.ROUND_ROBIN_STALE: "the {first} servers of connect time; never asks again",
    Mode.ROUND_ROBIN: "all {servers}: told by the demo itself, the moment they were ready",
    Mode.TRIMTAB: "all {servers}: told by the control plane, which watches the manifests",
}


def knows(mode: Mode, setting: Setting) -> str:
    """Which servers a mode knows, and from whom."""
    return KNOWS[mode].format(first=setting.first_servers, servers=setting.servers)


HEADS = ("max/mean", "CV", "p50", "p90", "p99", "p99.9", "errors", "requests")  # latencies in ms


def cells(result: Figures) -> tuple[str, ...]:
    """A mode's figures as shown, in the order of ``HEADS``; "-" where there is none."""
    return (
        _number(result.max_over_mean, 2),
        _number(result.cv, 2),
        _number(result.p50_ms, 0),
        _number(result.p90_ms, 0),
        _number(result.p99_ms, 0),
        _number(result.p999_ms, 0),
        f"{result.error_rate:.1%}",
        f"{result.requests:,}",
    )


def brief(result: Figures) -> str:
    """A mode's figures in a line."""
    return (
        f"max/mean {_number(result.max_over_mean, 2)}, p99 {_number(result.p99_ms, 0)} ms, "
        f"errors {result.error_rate:.1%}"
    )


def summary(setting: Setting) -> str:
    """The experiment in one paragraph."""
    slow = setting.slow_server
    usual = min(setting.service_ms)
    return (
        f"{setting.servers} gRPC servers, {setting.workers_per_server} workers each, "
        f"{usual:g} ms of work per request; server {slow} needs {setting.service_ms[slow - 1]:g} ms. "
        f"{setting.first_servers} at first, all {setting.servers} after {setting.scale_up_s:g} s of "
        f"each phase. {setting.requests_per_s:g} requests/s through {setting.channels} channels "
        f"that were made while there were {setting.first_servers}, the same seeded Poisson "
        f"arrivals in every phase. The servers report their load with each answer, in all phases; only "
        f"trimtab listens. Slow start is off, since the new servers are warm at once."
    )


def measured(setting: Setting) -> str:
    """What the figures are of."""
    begin, end = setting.window_s
    return (
        f"Measured: requests that were due from {begin:g} s to {end:g} s of their phase, when all "
        f"{setting.servers} servers were there. Latency counts from when a request was due; a "
        f"failed one counts with the time until it failed, which the deadline of "
        f"{setting.deadline_s:g} s ends. Requests per server are counted by the servers, and "
        f"max/mean and CV are over all {setting.servers}. p99.9 is shown from "
        f"{ENOUGH_FOR_P999:,} requests on."
    )


class Reading(NamedTuple):
    """One thing to make of the table."""

    heading: str
    text: str


def readings(report: Report) -> list[Reading]:
    """What to make of the table, each about one difference."""
    setting, modes = report.experiment, report.modes
    slow = setting.slow_server
    capacity = setting.workers_per_server / setting.service_ms[slow - 1] * 1e3
    share = setting.requests_per_s / setting.servers
    even, trimtab = modes[Mode.ROUND_ROBIN.value], modes[Mode.TRIMTAB.value]
    slow_even = _share(even.requests_per_server, slow)
    slow_trimtab = _share(trimtab.requests_per_server, slow)
    learnt = report.details[Mode.TRIMTAB.value].learnt_ms
    return [
        Reading(
            "pinned → round_robin_stale",
            f"Both know only the first {setting.first_servers} servers. What differs is picking "
            f"per request instead of per connection: max/mean "
            f"{_number(modes[Mode.PINNED.value].max_over_mean, 2)} and "
            f"{_number(modes[Mode.ROUND_ROBIN_STALE.value].max_over_mean, 2)}. The pinned line depends "
            f"on the draw (seed {report.seed}): another seed gives other servers the surplus.",
        ),
        Reading(
            "round_robin_stale → round_robin",
            f"The same picking. What differs is knowing the "
            f"{setting.servers - setting.first_servers} new servers. round_robin is given its best "
            f"case: no resolver tells native gRPC that quickly.",
        ),
        Reading(
            "round_robin → trimtab",
            f"Both know all {setting.servers}. What differs is the picking. Round robin is as even "
            f"as it gets (max/mean {_number(even.max_over_mean, 2)}), so server {slow} keeps "
            f"{slow_even} of the requests; its {capacity:.0f}/s of capacity is less than an even "
            f"share of {share:g}/s, and the queue from before the scale-up can't drain. trimtab "
            f"looks at what is in flight and how long it takes, and gives it {slow_trimtab} (max/mean "
            f"{_number(trimtab.max_over_mean, 2)}; among the other servers the differences are "
            f"chance, which shrinks with the number of requests). p99: {_number(even.p99_ms, 0)} "
            f"ms and {_number(trimtab.p99_ms, 0)} ms.",
        ),
        Reading(
            "What this doesn't show",
            f"Were all {setting.servers} servers equal, trimtab would gain nothing over "
            f"round_robin on all of them; its part would be to know them. The load was chosen so "
            f"that an even share is just too much for the slow server, which favours anything "
            f"that adapts. All of it runs on one machine, without a network.",
        ),
        Reading(
            "How quickly trimtab learnt",
            (
                f"{learnt:g} ms from writing the manifest to the first request on a new server: "
                "file, control plane, xDS, connection, pick."
                if learnt is not None
                else "No request reached a new server."
            ),
        ),
    ]


def machine_verdict(report: Report) -> str:
    """Whether the machine was quick enough for the figures to mean something."""
    lag = max(detail.client_lag_p99_ms for detail in report.details.values())
    overrun = max(detail.server_overrun_p99_ms for detail in report.details.values())
    facts = (
        f"99 % of requests left at most {lag:g} ms late and were worked on at most {overrun:g} ms "
        f"too long."
    )
    if report.kept_up:
        return f"The machine kept up: {facts}"
    return (
        f"THE MACHINE WAS TOO BUSY (over {BUSY_MS:g} ms): {facts} Latencies are partly its own; "
        f"close other programs and run the demo again."
    )


def machine_facts(report: Report) -> str:
    """What it ran on, in a line."""
    m = report.machine
    return (
        f"{m.cores} cores ({m.processor}), {m.system}, Python {m.python}, grpcio {m.grpcio}, "
        f"trimtab {m.trimtab}"
    )


def _share(per_server: tuple[int, ...], server: int) -> str:
    total = sum(per_server)
    return f"{per_server[server - 1] / total:.1%}" if total else "none"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
