"""One Service in several clusters: the endpoints of all of them, in one snapshot. Pure.

The same name, ``SERVICE.NAMESPACE:PORT``, is the same service wherever it is (the rule of
multi-cluster Services, KEP-1645). Where each endpoint is, its locality's region says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimtab.model import Endpoint, Problem, Snapshot

Offer = tuple[str, Snapshot]
"""A source's name, and what it says of the cluster."""


def joined(offers: Sequence[Offer], report: Callable[[str, Problem], None]) -> Snapshot:
    """One snapshot of what several sources say of one cluster.

    The first source decides on what can be one only: the policy, the port's name, and an address
    that two sources claim.

    Args:
        offers: at least one; the first counts most.
        report: hears, with the source's name, of each address that is another source's.
    """
    _, first = offers[0]
    if len(offers) == 1:
        return first
    found: list[Endpoint] = []
    owners: dict[tuple[str, int], str] = {}  # by address and port, second addresses included
    for name, snapshot in offers:
        for endpoint in snapshot.endpoints:
            owner = owners.setdefault(endpoint.key, name)
            others = endpoint.additional_addresses
            if others and owner == name:
                keys = [(address, endpoint.port) for address in others]
                owner = next((owners[k] for k in keys if owners.get(k, name) != name), name)
                if owner == name:
                    owners.update(dict.fromkeys(keys, name))
                else:
                    del owners[endpoint.key]
            if owner == name:
                found.append(endpoint)
            else:
                report(
                    name,
                    Problem(
                        f"cluster {snapshot.cluster}",
                        "endpoints",
                        endpoint.target,
                        f"source {owner} has this address too, and counts; pods of clusters that are "
                        "joined need addresses of their own",
                    ),
                )
    endpoints = tuple(sorted(found, key=lambda endpoint: endpoint.key))
    policy = next((s.policy for _, s in offers if s.policy is not None), None)
    return Snapshot.presorted(first.cluster, endpoints, policy, first.service)
