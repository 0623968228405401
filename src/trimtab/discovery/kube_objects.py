"""The parts of Service (v1) and EndpointSlice (discovery.k8s.io/v1) that trimtab reads.

Everything else in an object is passed over. What breaks the API's types becomes a ``Problem``.
Source: kubernetes/api core/v1 and discovery/v1 types.go.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trimtab.model import Problem

SERVICE_LABEL = "kubernetes.io/service-name"
CHANGED_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class Metadata(msgspec.Struct, frozen=True):
    """``metadata``. A missing namespace is ``default``, as kubectl has it."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creationTimestamp: str | None = None  # noqa: N815 - the API's spelling


class PortSpec(msgspec.Struct, frozen=True):
    """A port of a Service or of a slice; absent and null mean the same."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    appProtocol: str | None = None  # noqa: N815 - the API's spelling


class ServiceSpec(msgspec.Struct, frozen=True):
    """``spec`` of a Service."""

    type: str | None = None
    ports: list[PortSpec] | None = None
    publishNotReadyAddresses: bool | None = None  # noqa: N815 - the API's spelling
    ipFamilies: list[str] | None = None  # noqa: N815 - the API's spelling


class Service(msgspec.Struct, frozen=True):
    """A Service."""

    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


class Conditions(msgspec.Struct, frozen=True):
    """``conditions`` of an endpoint; None has a meaning of its own."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(msgspec.Struct, frozen=True):
    """The pod behind an endpoint."""

    kind: str | None = None
    name: str | None = None
    uid: str | None = None


class SliceEndpoint(msgspec.Struct, frozen=True):
    """One endpoint of a slice."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    hostname: str | None = None
    nodeName: str | None = None  # noqa: N815 - the API's spelling
    zone: str | None = None
    targetRef: TargetRef | None = None  # noqa: N815 - the API's spelling


class EndpointSlice(msgspec.Struct, frozen=True):
    """An EndpointSlice."""

    metadata: Metadata
    addressType: str | None = None  # noqa: N815 - the API's spelling
    endpoints: list[SliceEndpoint] | None = None
    ports: list[PortSpec] | None = None


KINDS: dict[tuple[str, str], type[Service | EndpointSlice]] = {
    ("v1", "Service"): Service,
    ("discovery.k8s.io/v1", "EndpointSlice"): EndpointSlice,
}
KubeObject = Service | EndpointSlice


def describe(kind: str, metadata: Metadata) -> str:
    """``EndpointSlice shop/orders-abc``."""
    return f"{kind} {metadata.namespace}/{metadata.name}"


def decode(raw: object, where: str) -> KubeObject | Problem | None:
    """One decoded document as an object; None for kinds that trimtab does not read."""
    if not isinstance(raw, dict):
        return Problem(
            where, "", _short(raw), "a document must be an object with kind and metadata"
        )
    known = KINDS.get((str(raw.get("apiVersion")), str(raw.get("kind"))))
    if known is None:
        return None
    meta: Any = raw.get("metadata")
    if isinstance(meta, dict) and meta.get("name"):
        where = f"{raw['kind']} {meta.get('namespace') or 'default'}/{meta['name']} ({where})"
    try:
        return msgspec.convert(raw, known)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        return Problem(where, path.strip("`").removeprefix("$.") or "", "", text)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004
