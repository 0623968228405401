"""Which clusters a client may know of, by its verified identity. Pure.

What a client says of itself (its node) decides nothing here. What it may not see is answered exactly
as if it did not exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from trimtab.control.patterns import fits
from trimtab.model import ServicePort

_Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_SERVICE_ACCOUNT = "system:serviceaccount:"
_SPIFFE = "spiffe://"
_PATH_PARTS = 5  # TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, as it has proved.

    Attributes:
        subject: ``spiffe://...``, ``system:serviceaccount:NAMESPACE:NAME``, ``static:NAME`` or
            ``x509:NAME``. The prefix is set by how it was proved, so that no kind can pass for
            another.
        namespace: the Kubernetes namespace it belongs to, "" if the proof names none.
        expires_at: when the proof ends [Unix seconds]; None if it doesn't while the stream lasts.
    """

    subject: str
    namespace: str = ""
    expires_at: float | None = None


def service_account(username: str) -> Identity | None:
    """The identity behind a user name of a TokenReview; None if it is no service account's."""
    namespace, colon, name = username.removeprefix(_SERVICE_ACCOUNT).partition(":")
    if not username.startswith(_SERVICE_ACCOUNT) or not colon or not namespace or not name:
        return None
    return Identity(username, namespace)


def spiffe(uri: str) -> Identity | None:
    """The identity behind a certificate's URI name; None if it is no SPIFFE id.

    A path of the form ``/ns/NAMESPACE/sa/ACCOUNT``, as Istio and SPIRE write it, names a namespace.
    """
    if not uri.startswith(_SPIFFE):
        return None
    domain, *path = uri.removeprefix(_SPIFFE).split("/")
    if not domain or not all(path):
        return None
    kubernetes = len(path) + 1 == _PATH_PARTS and (path[0], path[2]) == ("ns", "sa")
    return Identity(uri, path[1] if kubernetes else "")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What some clients may see besides the default.

    Attributes:
        subject: a pattern of ``Identity.subject``; ``*`` stands for any characters.
        namespaces: patterns of namespaces whose Services they see.
        services: patterns of ``SERVICE.NAMESPACE``.
    """

    subject: _Pattern
    namespaces: tuple[_Pattern, ...] = ()
    services: tuple[_Pattern, ...] = ()

    def allows(self, service: ServicePort) -> bool:
        """Whether this rule shows the Service, whoever asks."""
        name = f"{service.service}.{service.namespace}"
        return any(fits(service.namespace, p) for p in self.namespaces) or any(
            fits(name, p) for p in self.services
        )


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section ``authorization`` of the configuration file.

    Attributes:
        default: what every identified client sees: ``own`` namespace, or ``all`` (one tenant).
        rules: what some see in addition.
    """

    default: Literal["own", "all"] = "own"
    rules: tuple[Rule, ...] = ()

    def sees(self, identity: Identity, service: ServicePort | None) -> bool:
        """Whether ``identity`` may know of the Service; None is a cluster without one."""
        if self.default == "all":
            return True
        if service is None:
            return False
        if "*" in service.exported_to:
            return True
        own = identity.namespace
        if own and (service.namespace == own or own in service.exported_to):
            return True
        return any(
            fits(identity.subject, rule.subject) and rule.allows(service) for rule in self.rules
        )


class Authorization:
    """The policy in force. It is replaced as a whole; whoever asks next gets the new answer."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def audience(self, identity: Identity) -> Audience:
        """What one client may see, now and after each change of the policy."""
        return Audience(self, identity)


@dataclass(frozen=True, slots=True)
class Audience:
    """One client's sight of the catalog; an ``xds.catalog.Audience``."""

    _authorization: Authorization = field(repr=False)
    identity: Identity

    def sees(self, service: ServicePort | None) -> bool:
        """Whether the client may know of this Service."""
        return self._authorization.policy.sees(self.identity, service)
