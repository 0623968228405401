"""What a Service's ``trimtab.dev/`` annotations ask for, parsed once, here.

A bad value becomes a ``Problem`` and the default is used; nothing else is touched.
"""

from __future__ import annotations

from trimtab import policies
from trimtab.discovery import ReportProblem
from trimtab.discovery.kube_objects import Service, describe
from trimtab.model import PolicyConfig, Problem

PREFIX = "trimtab.dev/"
POLICY = PREFIX + "policy"
KNOWN = {POLICY: "which strategy picks: a registered policy's name"}


def policy_of(service: Service, report: ReportProblem) -> PolicyConfig | None:
    """The policy that the Service names; None leaves it to the client."""
    name = (service.metadata.annotations or {}).get(POLICY)
    if name is None:
        return None
    if name not in policies.names():
        report(
            Problem(
                describe("Service", service.metadata),
                f"metadata.annotations[{POLICY}]",
                repr(name),
                f"choose one of {', '.join(policies.names())}; the default is used",
            )
        )
        return None
    return PolicyConfig(name)
