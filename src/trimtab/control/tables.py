"""What the admin pages said, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

_ANY_WIDTH = 1_000_000  # columns: a name stays whole, so that it can be found and copied
_GAP = 2
_NAMES_IN_SUMMARY = 3


def console() -> Console:
    """Standard output. Nothing is folded: what is too wide for a terminal runs on."""
    # Without a height rich asks the terminal for both, or takes 80 where TERM is "dumb".
    return Console(width=_ANY_WIDTH, height=1, highlight=False)


def clusters_table(clusters: Sequence[dict[str, Any]]) -> Table:
    """One line per cluster."""
    table = Table("CLUSTER", "READY", "DRAINING", "UNHEALTHY", "ZONES", "AGE", "ALSO KNOWN AS")
    for cluster in clusters:
        counts = cluster["counts"]
        zones = ", ".join(f"{zone or '-'}: {n}" for zone, n in cluster["zones"].items())
        table.add_row(
            Text(cluster["name"], style="" if cluster["usable"] else "red"),
            str(counts["ready"]),
            str(counts["draining"]),
            str(counts["unhealthy"]),
            zones or "-",
            duration(cluster["age_seconds"]),
            Text(", ".join(cluster["aliases"]) or "-"),
        )
    return table


def endpoints_table(cluster: dict[str, Any]) -> Table:
    """One line per endpoint of a cluster."""
    table = Table("ENDPOINT", "HEALTH", "ZONE", "NODE", "WEIGHT", "PRIORITY")
    for endpoint in cluster["endpoints"]:
        table.add_row(
            endpoint["address"],
            Text(endpoint["health"], style=_HEALTH_STYLES.get(endpoint["health"], "")),
            Text(endpoint["zone"] or "-"),
            Text(endpoint["node"] or "-"),
            str(endpoint["weight"]),
            str(endpoint["priority"]),
        )
    return table


def why_lines(why: dict[str, Any]) -> list[str]:
    """What is true of the whole cluster: its names, its policy, the rule of zones."""
    others = f" (also {', '.join(why['aliases'])})" if why["aliases"] else ""
    settings = "; ".join(f"{s['setting']} {s['value']}, from {s['from']}" for s in why["policy"])
    size = why["subset_size"]
    subset = f"; each client keeps to {size} of them" if size else ""
    return [
        f"cluster   {why['cluster']}{others}, unchanged for {duration(why['age_seconds'])}",
        f"policy    {settings}",
        f"zones     {why['zone_rule']}",
        f"split     {_split(why['split'])}",
        f"used      {why['used']} of {len(why['endpoints'])} endpoints{subset}",
    ]


def _split(split: dict[str, Any]) -> str:
    def listed(shares: dict[str, float]) -> str:
        return ", ".join(f"{zone or '(unknown)'} {part:.0%}" for zone, part in shares.items())

    text = f"{listed(split['trimtab']) or 'none'}, {split['reason']}"
    if split["others"] != split["trimtab"]:
        text += f"; native gRPC and Envoy: {listed(split['others'])}"
    return text


def why_table(why: dict[str, Any]) -> Table:
    """One line per endpoint: whether the client uses it, and why."""
    table = Table("ENDPOINT", "USED", "ZONE", "HEALTH", "REASON")
    for endpoint in why["endpoints"]:
        table.add_row(
            endpoint["address"],
            "yes" if endpoint["used"] else "no",
            Text(endpoint["zone"] or "-"),
            Text(endpoint["health"], style=_HEALTH_STYLES.get(endpoint["health"], "")),
            Text(endpoint["reason"]),
        )
    return table


def load_table(clusters: Sequence[dict[str, Any]]) -> Table:
    """One line per cluster: what clients and servers report of it, the busiest first."""
    table = Table(
        "CLUSTER", "REQUESTS/S", "ERRORS/S", "IN FLIGHT", "LATENCY", "MAX/MEAN", "CV", "BY"
    )
    for one in clusters:
        latency_s = one["latency_seconds"]
        even = one["max_to_mean"] is not None
        table.add_row(
            Text(one["cluster"]),
            f"{one['requests_per_second']:.1f}",
            Text(
                f"{one['errors_per_second']:.1f}", style="red" if one["errors_per_second"] else ""
            ),
            f"{one['in_flight']:.1f}",
            "-" if latency_s is None else f"{latency_s * 1e3:.1f} ms",
            f"{one['max_to_mean']:.2f}" if even else "-",
            f"{one['cv']:.2f}" if even else "-",
            # Of what servers say, theirs is the word; clients that report as well add nothing.
            "servers"
            if one["by"] == "servers"
            else ", ".join(sorted({row["client"] for row in one["rows"]})) or "-",
        )
    return table


def clients_table(clients: Sequence[dict[str, Any]]) -> Table:
    """One line per client stream."""
    table = Table("CLIENT", "KIND", "PEER", "STREAM", "SINCE", "RESOURCES", "STATE")
    for client in clients:
        resources = client["resources"]
        states = {r["state"] for r in resources}
        names = sorted({r["name"] for r in resources})
        more = len(names) - _NAMES_IN_SUMMARY
        shown = ", ".join(names[:_NAMES_IN_SUMMARY]) + (f" and {more} more" if more > 0 else "")
        table.add_row(
            Text(client["node"] or "?"),
            client["kind"],
            client["peer"],
            f"{client['service']}/{client['transport']}",
            duration(client["connected_seconds"]),
            Text(shown or "-"),
            Text(_states(resources), style="red" if "nacked" in states else ""),
        )
    return table


def _states(resources: Sequence[dict[str, Any]]) -> str:
    """How many resources are in which state, and since when the last of them is."""
    ages: dict[str, list[float | None]] = {}
    for resource in resources:
        ages.setdefault(resource["state"], []).append(resource["state_seconds"])
    texts = []
    for state, found in sorted(ages.items()):
        known = [age for age in found if age is not None]
        since = f" ({duration(min(known))})" if known else ""
        texts.append(f"{len(found)} {state}{since}")
    return ", ".join(texts) or "-"


def nacks(clients: Sequence[dict[str, Any]]) -> list[Text]:
    """What clients rejected, and why, in their words."""
    return [
        Text(
            f"{c['node'] or '?'} rejected {r['type']} {r['name']} "
            f"{duration(r['state_seconds'])} ago and keeps what it had: {r['error']}",
            style="red",
        )
        for c in clients
        for r in c["resources"]
        if r["state"] == "nacked"
    ]


def duration(seconds: float | None) -> str:
    """An age in the largest unit that keeps two digits, such as ``43 s`` or ``17 min``."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


_HEALTH_STYLES = {"ready": "green", "draining": "yellow", "unhealthy": "red"}


class Table:
    """Columns that are as wide as what is in them. No line ends in spaces, which terminals would fold."""

    def __init__(self, *columns: str) -> None:
        self._rows = [[Text(column, style="bold") for column in columns]]

    def add_row(self, *cells: str | Text) -> None:
        """As many cells as there are columns."""
        self._rows.append([Text(cell) if isinstance(cell, str) else cell for cell in cells])

    def __rich_console__(self, _console: object, _options: object) -> Iterator[Text]:
        widths = [max(cell.cell_len for cell in column) for column in zip(*self._rows, strict=True)]
        for row in self._rows:
            line = Text()
            for cell, width in zip(row, widths, strict=True):
                line.append_text(cell).append(" " * (width - cell.cell_len + _GAP))
            line.rstrip()
            yield line


def source_lines(sources: list[dict[str, Any]]) -> list[str]:
    """A line for each source that was not read yet, or can't be read now."""
    lines = []
    for source in sources:
        reason = source["reason"] or "waiting for it"
        if not source["synced"]:
            lines.append(f"source {source['name']}: never read to its end: {reason}")
        elif source["failing_seconds"] is not None:
            lines.append(
                f"source {source['name']}: not read for {duration(source['failing_seconds'])}, its "
                f"last known state is in use: {reason}"
            )
    return lines
