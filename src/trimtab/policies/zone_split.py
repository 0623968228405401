"""Which part of a client zone's requests each server zone gets, from counts on both sides. Pure.

Formula: with L = the zone's part of all clients and U = its part of all capacity,
    stays in the own zone       min(1, U / L)
    the rest, to zone i         in proportion to max(0, U_i - L_i), what zone i has to spare
Clients are taken as equally busy. Then each server zone gets exactly its capacity's part of all
requests, and no more leaves a zone than must. Clients in an unknown zone send by capacity alone, which
keeps that so.
Units: clients are pods, capacity is the sum of endpoint weights; shares are parts of 1.
Source: Envoy, "zone aware routing" (residual capacities), which knows one side's counts only.
Weakness: counts see neither load nor slowness; ``policies.zones`` steers from here by latency.
"""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN = ""
"""The zone of a client that doesn't know its own, and of an endpoint whose node has no zone."""

Shares = Mapping[str, float]
"""Parts of 1 by server zone; only zones that have capacity. Empty where none has any."""


def capacity_split(servers: Mapping[str, int]) -> Shares:
    """The parts by capacity alone: what a client gets whose zone, or whose peers, are unknown."""
    capacity = _counted(servers)
    total = sum(capacity.values())
    return {zone: part / total for zone, part in capacity.items()}


def zone_split(clients: Mapping[str, int], servers: Mapping[str, int]) -> Mapping[str, Shares]:
    """What each client zone sends to each server zone.

    Args:
        clients: pods by zone.
        servers: capacity by zone.

    Returns:
        A row for each zone with clients, and one under ``UNKNOWN``, by capacity alone. The latter
        is also for a client in a zone where none was counted: what was counted can't be right then,
        and all its peers may be there. Rows and columns are sorted; equal counts give equal rows in
        every process.
    """
    alone = capacity_split(servers)
    asking = _counted(clients)
    asking.pop(UNKNOWN, None)
    if not alone:
        return {UNKNOWN: alone} | dict.fromkeys(asking, alone)
    if not asking:
        return {UNKNOWN: alone}
    capacity = _counted(servers)
    total = sum(capacity.values())
    everyone = sum(asking.values())
    # All in whole numbers, times everyone * total, so that nothing hangs on the order of a sum.
    offer = {zone: part * everyone for zone, part in capacity.items()}
    want = {zone: part * total for zone, part in asking.items()}
    # No endpoint's own zone is the unknown one.
    spare = {
        zone: max(0, part - (want.get(zone, 0) if zone != UNKNOWN else 0))
        for zone, part in offer.items()
    }
    room = sum(spare.values())
    rows: dict[str, Shares] = {UNKNOWN: alone}
    for zone, wanted in want.items():
        stays = min(offer.get(zone, 0), wanted)
        row = {zone: stays / wanted} if stays else {}
        if stays < wanted:
            # Where a zone has too little, another has something to spare: both sum to the same.
            rest = wanted - stays
            row |= {to: rest * part / (wanted * room) for to, part in spare.items() if part}
        rows[zone] = dict(sorted(row.items()))
    return rows


def with_reserve(shares: Shares, servers: Mapping[str, int], reserve: float) -> Shares:
    """The same, with a part of the requests spread by capacity over every zone.

    For clients that can't find out by themselves: a zone that gets nothing is not where they can
    spill to in good proportion. If all client zones do so, each server zone still gets its part.

    Args:
        shares: a row of ``zone_split``.
        servers: capacity by zone.
        reserve: the part, 0 to 1.
    """
    return {
        zone: (1.0 - reserve) * shares.get(zone, 0.0) + reserve * part
        for zone, part in capacity_split(servers).items()
    }


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {zone: counts[zone] for zone in sorted(counts) if counts[zone] > 0}
