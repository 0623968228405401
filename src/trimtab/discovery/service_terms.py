"""One Service, read: what it says of its clusters. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trimtab.discovery import ReportProblem
from trimtab.discovery.kube_objects import Service, ServiceSpec, describe, short
from trimtab.discovery.retry_annotations import repeatable_of
from trimtab.discovery.service_annotations import (
    DISABLED,
    exported_to,
    out_of_band,
    policy_of,
    switched_off,
)
from trimtab.discovery.slice_reading import MAX_PORT
from trimtab.model import PolicyConfig, Problem, ServicePort


@dataclass(frozen=True, slots=True)
class Terms:
    """What a Service says of its clusters.

    Attributes:
        ports: each makes a cluster.
        publish_not_ready: ``publishNotReadyAddresses``.
        family: 4 or 6, whose address leads in a dual-stack endpoint.
        policy: what its annotations say, None if nothing.
    """

    ports: tuple[ServicePort, ...]
    publish_not_ready: bool
    family: int
    policy: PolicyConfig | None


def read_terms(service: Service, report: ReportProblem) -> Terms:
    """Read a Service; ``report`` hears of every rejected part."""
    spec = service.spec or ServiceSpec()
    if spec.type == "ExternalName":
        report(
            Problem(
                describe("Service", service.metadata),
                "spec.type",
                short(spec.type),
                "it has no endpoints to choose from; use its DNS name in the client",
            )
        )
        return Terms((), publish_not_ready=False, family=4, policy=None)
    off = switched_off(service, report)
    return Terms(
        tuple(_ports(service, spec, report, off=off)),
        publish_not_ready=bool(spec.publishNotReadyAddresses),
        family=6 if (spec.ipFamilies or ["IPv4"])[0] == "IPv6" else 4,
        policy=DISABLED if off else policy_of(service, report),
    )


def _ports(
    service: Service, spec: ServiceSpec, report: ReportProblem, *, off: bool
) -> Iterator[ServicePort]:
    where = describe("Service", service.metadata)
    exported = exported_to(service, report)
    asked = out_of_band(service, report)
    repeatable = None if off else repeatable_of(service, report)
    seen: set[int] = set()
    for i, port in enumerate(spec.ports or ()):
        if (port.protocol or "TCP") != "TCP":
            continue
        number = port.port
        if number is None or not 1 <= number <= MAX_PORT:
            report(Problem(where, f"spec.ports[{i}].port", short(number), "give 1 to 65535"))
        elif number in seen:
            report(
                Problem(
                    where, f"spec.ports[{i}].port", short(number), "it stands twice; remove one"
                )
            )
        else:
            seen.add(number)
            yield ServicePort(
                service.metadata.name,
                service.metadata.namespace,
                number,
                port.name or "",
                port.appProtocol or "",
                exported,
                asked,
                repeatable,
            )
