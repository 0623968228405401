"""The parts of Service (v1) and EndpointSlice (discovery.k8s.io/v1) that trimtab reads.

Everything else in an object is passed over. What breaks the API's types becomes a ``Problem``.
Source: kubernetes/api core/v1 and discovery/v1 types.go.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

import msgspec

from trimtab.model import Problem

SERVICE_LABEL = "kubernetes.io/service-name"
CHANGED_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class Metadata(msgspec.Struct, frozen=True, gc=False):
    """``metadata``. A missing namespace is ``default``, as kubectl has it."""

    name: str
    namespace: str = "default"
    labels: dict[str, str | None] | None = None
    annotations: dict[str, str | None] | None = None
    creationTimestamp: str | None = None  # noqa: N815 - the API's spelling
    resourceVersion: str | None = None  # noqa: N815 - the API's spelling

    def label(self, key: str) -> str:
        """A label's value, "" if it is not there."""
        return (self.labels or {}).get(key) or ""

    def annotation(self, key: str) -> str:
        """An annotation's value, "" if it is not there."""
        return (self.annotations or {}).get(key) or ""


class PortSpec(msgspec.Struct, frozen=True, gc=False):
    """A port of a Service or of a slice; absent and null mean the same."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    appProtocol: str | None = None  # noqa: N815 - the API's spelling


class ServiceSpec(msgspec.Struct, frozen=True, gc=False):
    """``spec`` of a Service."""

    type: str | None = None
    ports: list[PortSpec] | None = None
    publishNotReadyAddresses: bool | None = None  # noqa: N815 - the API's spelling
    ipFamilies: list[str] | None = None  # noqa: N815 - the API's spelling
    trafficDistribution: str | None = None  # noqa: N815 - the API's spelling


class Service(msgspec.Struct, frozen=True, gc=False):
    """A Service."""

    metadata: Metadata
    spec: ServiceSpec | None = None


class Conditions(msgspec.Struct, frozen=True, gc=False):
    """``conditions`` of an endpoint; None has a meaning of its own."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(msgspec.Struct, frozen=True, gc=False):
    """The pod behind an endpoint."""

    uid: str | None = None


class SliceEndpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint of a slice."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    nodeName: str | None = None  # noqa: N815 - the API's spelling
    zone: str | None = None
    targetRef: TargetRef | None = None  # noqa: N815 - the API's spelling


class EndpointSlice(msgspec.Struct, frozen=True, gc=False):
    """An EndpointSlice."""

    metadata: Metadata
    addressType: str | None = None  # noqa: N815 - the API's spelling
    endpoints: list[SliceEndpoint] | None = None
    ports: list[PortSpec] | None = None


class PodAnnotations(
    msgspec.Struct, frozen=True, gc=False, rename={"weight": "trimtab.dev/weight"}
):
    """The one annotation of a pod that counts."""

    weight: str | None = None


class PodMetadata(msgspec.Struct, frozen=True, gc=False):
    """``metadata`` of a pod."""

    name: str
    namespace: str = "default"
    uid: str | None = None
    labels: dict[str, str | None] | None = None
    annotations: PodAnnotations | None = None
    resourceVersion: str | None = None  # noqa: N815 - the API's spelling


class Running(msgspec.Struct, frozen=True, gc=False):
    """``running`` of a container's state."""

    startedAt: str | None = None  # noqa: N815 - the API's spelling


class ContainerState(msgspec.Struct, frozen=True, gc=False):
    """``state`` of a container."""

    running: Running | None = None


class ContainerStatus(msgspec.Struct, frozen=True, gc=False):
    """One container's status."""

    state: ContainerState | None = None


class PodStatus(msgspec.Struct, frozen=True, gc=False):
    """``status`` of a pod."""

    containerStatuses: list[ContainerStatus] | None = None  # noqa: N815 - the API's spelling


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A pod; read only for Services that ask (``discovery.pods``)."""

    metadata: PodMetadata
    status: PodStatus | None = None


KINDS: dict[tuple[str, str], type[Service | EndpointSlice]] = {
    ("v1", "Service"): Service,
    ("discovery.k8s.io/v1", "EndpointSlice"): EndpointSlice,
}
WATCHED: dict[tuple[str, str], type[Service | EndpointSlice | Pod]] = {**KINDS, ("v1", "Pod"): Pod}
KubeObject = Service | EndpointSlice
Watched = KubeObject | Pod
"""What API servers are asked for, and what counts in files; ``KubeObject``s alone make clusters."""


# RFC 1123 labels, as the API server has them for namespaces and Services: without dots and colons,
# so that SERVICE.NAMESPACE:PORT can be read in one way only.
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_RULE = "at most 63 lower-case letters, digits and dashes, no dash at either end"
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_SOME_KEY = "[...]"

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_REPR.maxlevel = 2
_REPR.maxdict = _REPR.maxlist = 3


def describe(kind: str, metadata: Metadata | PodMetadata) -> str:
    """``EndpointSlice shop/orders-abc``."""
    return f"{kind} {metadata.namespace}/{metadata.name}"


def short(value: object) -> str:
    """A bad value as a Problem shows it: never long, however large it is."""
    return _REPR.repr(value)


def decode(raw: object, where: str = "") -> KubeObject | Problem | None:
    """One object, from bytes of JSON or as decoded; None for kinds that trimtab does not read.

    Args:
        raw: the object.
        where: the place it stands at, such as ``orders.yaml, document 2``, for the Problem.
    """
    if isinstance(raw, bytes):
        try:
            raw = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Problem(where or "object", "", short(raw), f"this is no JSON: {error}")
    found = _decode(raw, where, KINDS)
    assert not isinstance(found, Pod)  # noqa: S101 - not among these kinds
    return found


def decode_watched(raw: object, where: str) -> Watched | Problem | None:
    """One object as decoded, pods too; else as ``decode``."""
    return _decode(raw, where, WATCHED)


def _decode(
    raw: object, where: str, kinds: Mapping[tuple[str, str], type[Watched]]
) -> Watched | Problem | None:
    if not isinstance(raw, Mapping):
        return Problem(
            where or "object", "", short(raw), "give an object with kind, apiVersion and metadata"
        )
    known = kinds.get((str(raw.get("apiVersion")), str(raw.get("kind"))))
    if known is None:
        return None
    raw, name = _with_namespace(raw)
    where = f"{name} ({where})" if where else name
    try:
        found = msgspec.convert(raw, known)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        path = path.strip("`").removeprefix("$").removeprefix(".")
        value = _at(raw, path)
        return _unquoted(where, path, value) or Problem(
            where, path, short(value), text[0].lower() + text[1:]
        )
    except RecursionError:
        return Problem(where, "", "", "it is nested too deeply; flatten it")
    return badly_named(found, where) or found


def _unquoted(where: str, path: str, value: object) -> Problem | None:
    """What is wrong with an annotation such as ``on`` or 5 without quotes, of which msgspec tells no key."""
    if not path.endswith(_SOME_KEY) or not isinstance(value, Mapping):
        return None
    for key, one in value.items():
        if isinstance(one, bool | int | float):
            fix = 'this has to be text: write it in quotes, such as "on" or "30"'
            return Problem(where, f"{path.removesuffix(_SOME_KEY)}[{key}]", short(one), fix)
    return None


def decode_as(kind: type[Watched], raw: object, where: str = "") -> Watched | Problem:
    """One object of a known kind, as the items of a list are: they don't say their kind.

    Args:
        kind: which it is.
        raw: the object, as decoded.
        where: the place it stands at, for the Problem.
    """
    api_version, name = next(names for names, known in WATCHED.items() if known is kind)
    if isinstance(raw, Mapping):
        raw = {**raw, "apiVersion": api_version, "kind": name}
    found = _decode(raw, where, WATCHED)
    assert found is not None  # noqa: S101 - None is for unknown kinds only
    return found


def _with_namespace(raw: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], str]:
    """The object with its namespace, where it has a readable one; and what to call it."""
    meta = raw.get("metadata")
    if not isinstance(meta, Mapping):
        return raw, f"{raw['kind']} without metadata"
    namespace = meta.get("namespace") or "default"
    if namespace is not meta.get("namespace"):
        raw = {**raw, "metadata": {**meta, "namespace": namespace}}
    shown = [
        value if isinstance(value, str) else short(value) for value in (namespace, meta.get("name"))
    ]
    return raw, f"{raw['kind']} {shown[0][:253]}/{shown[1][:253]}"


def _at(raw: Any, path: str) -> Any:
    """The value at msgspec's path; of a mapping whose key it leaves out, the whole mapping."""
    for name, index in _STEP.findall(path):
        if name and isinstance(raw, Mapping) and name in raw:
            raw = raw[name]
        elif index.isdigit() and isinstance(raw, list) and int(index) < len(raw):
            raw = raw[int(index)]
        else:
            break
    return raw


def badly_named(found: Watched, where: str = "") -> Problem | None:
    """What is wrong with an object's name or namespace; None if nothing is."""
    meta = found.metadata
    where = where or describe(type(found).__name__, meta)
    if not _LABEL.fullmatch(meta.namespace):
        return Problem(where, "metadata.namespace", short(meta.namespace), f"give {_LABEL_RULE}")
    if isinstance(found, Service) and not _LABEL.fullmatch(meta.name):
        return Problem(where, "metadata.name", short(meta.name), f"give {_LABEL_RULE}")
    if not meta.name:
        return Problem(where, "metadata.name", "''", "give it a name")
    return None
