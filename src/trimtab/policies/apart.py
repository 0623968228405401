"""Where a further attempt of a request goes: away from where the request has been.

Order: an endpoint in a zone where the request has not been; then one in the same zones; none, if there
is no other. Those that are ejected or silent don't count. ``strict`` zones are not left for this while
the own zone has an endpoint, and ``elsewhere`` looks there alone.
The policy is asked first, several times: it knows more than this does. ``less_busy`` chooses where it
insists: one that keeps to the own zone, say, or to what a key leads to.
Source of ``less_busy``: the power of two choices (Mitzenmacher 1996), over in-flight, weight and share.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from random import Random
from typing import TypeVar

from trimtab.policies import Node
from trimtab.policies.stack import Stack

N = TypeVar("N", bound=Node)


def elsewhere(stack: Stack, candidates: Iterable[N], been: Collection[Node]) -> list[N]:
    """The candidates that suit a further attempt best; none: there is no other endpoint.

    Args:
        stack: whose candidates they are.
        candidates: all of them.
        been: where the request was, as the stack knows them.
    """
    out: set[Node] = set()
    if stack.ejection is not None:
        out |= stack.ejection.ejected
    if stack.stalls is not None:
        out |= stack.stalls.silent
    fit = [node for node in candidates if node not in out]
    strict = stack.zones is not None and stack.judges.zone == "strict"
    if strict:
        fit = [node for node in fit if _zone(node) == stack.zone] or fit
    others = [node for node in fit if node not in been]
    if strict:
        return others
    zones = {_zone(node) for node in been}
    return [node for node in others if _zone(node) not in zones] or others


def less_busy(nodes: Sequence[N], random: Random) -> N:
    """The one of two, drawn at random, that has less to do for its capacity."""
    if len(nodes) == 1:
        return nodes[0]
    one, other = random.sample(nodes, 2)
    return one if _cost(one) <= _cost(other) else other


def _cost(node: Node) -> float:
    return (node.in_flight + 1) / (max(node.endpoint.weight, 1) * node.share)


def _zone(node: Node) -> str:
    return node.endpoint.locality.zone
