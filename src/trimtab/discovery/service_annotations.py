"""What a Service's ``trimtab.dev/`` annotations ask for, parsed once, here.

A bad value becomes a ``Problem`` and the default is used; nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Iterator

from trimtab import policies
from trimtab.discovery import ReportProblem
from trimtab.discovery.kube_objects import Service, describe, short
from trimtab.model import PolicyConfig, Problem

PREFIX = "trimtab.dev/"
POLICY = PREFIX + "policy"
KNOWN = {POLICY: "which strategy picks: a registered policy's name"}


def policy_of(service: Service, report: ReportProblem) -> PolicyConfig | None:
    """The policy that the Service names; None leaves it to the client."""
    if POLICY not in (service.metadata.annotations or {}):
        return None
    name = service.metadata.annotation(POLICY)
    if name not in policies.names():
        report(
            Problem(
                describe("Service", service.metadata),
                f"metadata.annotations[{POLICY}]",
                short(name),
                f"choose one of {', '.join(policies.names())}; the default is used",
            )
        )
        return None
    return PolicyConfig(name)


def unknown_annotations(service: Service) -> Iterator[Problem]:
    """The ``trimtab.dev/`` annotations that this version does not know, and so passes over."""
    for key in sorted(service.metadata.annotations or {}):
        if key.startswith(PREFIX) and key not in KNOWN:
            yield Problem(
                describe("Service", service.metadata),
                f"metadata.annotations[{key}]",
                short(service.metadata.annotation(key)),
                f"it is not known here and does nothing; known: {', '.join(KNOWN)}",
            )
