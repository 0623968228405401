"""What all channels of this process do now, as a text for people."""

from __future__ import annotations

from trimtab.balancer import Balancer, Node
from trimtab.client.open_channels import open_channels
from trimtab.zone_crossings import OTHER, OWN

_COLUMNS = ("endpoint", "zone", "state", "in flight", "requests", "errors", "mean", "share", "cost")


def debug() -> str:
    """The state of all open channels and HTTP clients of this process, for people to read.

    For each: policy, zone, how old its list of endpoints is; and by endpoint: its zone, its state
    (``ready``; ``connecting``; ``silent`` or ``ejected``: left out for now; ``unused``: not ready,
    or another has priority), requests in flight, requests and errors so far, the mean latency, and
    the share of its fair part that it gets (slow start, error bias), and the cost that the policy compares
    it by, if it has one (``p2c``: requests; ``token``: requests in flight and latency); then how often
    endpoints were ejected, and what the policy has to tell: the tokens it holds, which part of the requests stays in the own zone; and the requests so far by zone, with
    the part of them that left the own one. Read now, kept nowhere; the
    text may change with any version.
    """
    balancers = open_channels()
    if not balancers:
        return "trimtab: no channel is open\n"
    return "\n".join(_channel(each) for each in balancers)


def _channel(balancer: Balancer) -> str:
    age = balancer.age
    heard = "no list of endpoints yet" if age is None else f"list changed {age:.1f} s ago"
    zone = f"zone {balancer.zone}" if balancer.zone else "zone unknown"
    lines = [f"{balancer.cluster}: {balancer.policy}, {zone}, {heard}"]
    nodes = sorted(balancer.nodes.values(), key=lambda each: each.endpoint.key)
    rows = [_COLUMNS, *(_row(balancer, node) for node in nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if nodes:
        lines += [
            "  " + "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    zones = ", ".join(
        f"{zone or 'unknown'} {n}" for zone, n in sorted(balancer.zone_picks.items()) if n
    )
    told = balancer.describe()
    if told:
        lines.append(f"  policy: {told}")
    if balancer.ejections:
        lines.append(f"  ejections: {balancer.ejections}")
    if zones:
        lines.append(f"  requests by zone: {zones}{_crossed(balancer)}")
    if balancer.policy_error:
        lines.append(f"  policy refused: {balancer.policy_error}")
    return "\n".join(lines) + "\n"


def _crossed(balancer: Balancer) -> str:
    found = balancer.zone_crossings
    known = found.get(OWN, 0) + found.get(OTHER, 0)
    return f"; {found[OTHER] / known:.1%} left the own zone" if known else ""


def _row(balancer: Balancer, node: Node) -> tuple[str, ...]:
    ended = node.picks - node.in_flight
    return (
        node.endpoint.target,
        node.endpoint.locality.zone or "-",
        balancer.state_of(node),
        f"{node.in_flight}",
        f"{node.picks}",
        f"{node.errors}",
        f"{node.seconds / ended * 1e3:.1f} ms" if ended > 0 else "-",
        f"{node.share:.2f}",
        balancer.cost(node) or "-",
    )
