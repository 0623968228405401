"""What the API server sends for one kind of object: pages of lists, events of watches. Pure.

Decoded straight into the sparse structs, in one pass; only where that fails, object by object, so
that one bad object costs none of the others. Source: "Kubernetes API Concepts", efficient
detection of changes and resource versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from trimtab.discovery.kube_objects import (
    EndpointSlice,
    Pod,
    Service,
    Watched,
    badly_named,
    decode_as,
)
from trimtab.errors import ProtocolError
from trimtab.model import Problem

Key = tuple[str, str]  # namespace, name


class _ListMeta(msgspec.Struct, frozen=True, gc=False, rename={"continue_": "continue"}):
    resourceVersion: str | None = None  # noqa: N815 - the API's spelling
    continue_: str | None = None


class _Services(msgspec.Struct, frozen=True, gc=False):
    metadata: _ListMeta
    items: list[Service] | None = None


class _Slices(msgspec.Struct, frozen=True, gc=False):
    metadata: _ListMeta
    items: list[EndpointSlice] | None = None


class _Pods(msgspec.Struct, frozen=True, gc=False):
    metadata: _ListMeta
    items: list[Pod] | None = None


class _AnyList(msgspec.Struct, frozen=True, gc=False):
    metadata: _ListMeta
    items: list[Any] | None = None


class _Head(msgspec.Struct, frozen=True, gc=False):
    name: str
    namespace: str = "default"
    resourceVersion: str | None = None  # noqa: N815 - the API's spelling


class _HeadItem(msgspec.Struct, frozen=True, gc=False):
    metadata: _Head


class _Heads(msgspec.Struct, frozen=True, gc=False):
    metadata: _ListMeta
    items: list[_HeadItem] | None = None


class _ServiceEvent(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: Service


class _SliceEvent(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: EndpointSlice


class _PodEvent(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: Pod


class _AnyEvent(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object as the API server serves it.

    Attributes:
        kind: its struct.
        plural: as paths and RBAC rules name it.
        group: the API group, "" for the core.
        prefix: what its paths begin with.
    """

    kind: type[Watched]
    plural: str
    group: str
    prefix: str

    def path(self, namespace: str) -> str:
        """Where a namespace's objects are; "" means all namespaces'."""
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"{self.prefix}{inside}/{self.plural}"


SERVICES = Resource(Service, "services", "", "/api/v1")
SLICES = Resource(EndpointSlice, "endpointslices", "discovery.k8s.io", "/apis/discovery.k8s.io/v1")
PODS = Resource(Pod, "pods", "", "/api/v1")

_LISTS: dict[type[Watched], msgspec.json.Decoder[Any]] = {
    Service: msgspec.json.Decoder(_Services),
    EndpointSlice: msgspec.json.Decoder(_Slices),
    Pod: msgspec.json.Decoder(_Pods),
}
_EVENTS: dict[type[Watched], msgspec.json.Decoder[Any]] = {
    Service: msgspec.json.Decoder(_ServiceEvent),
    EndpointSlice: msgspec.json.Decoder(_SliceEvent),
    Pod: msgspec.json.Decoder(_PodEvent),
}
_HEADS = msgspec.json.Decoder(_Heads)
_ANY_LIST = msgspec.json.Decoder(_AnyList)
_ANY_EVENT = msgspec.json.Decoder(_AnyEvent)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(slots=True)
class Page:
    """A part of a list.

    Attributes:
        version: the list's resourceVersion.
        next: the token that gets the next page, "" after the last.
        objects: the readable ones.
        seen: the resourceVersion of all, the unreadable ones included.
        problems: why the unreadable ones are.
    """

    version: str
    next: str
    objects: list[Watched] = field(default_factory=list)
    seen: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch.

    Attributes:
        type: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``.
        version: the resourceVersion that it leads to, "" if unreadable.
        key: the object's; None for a bookmark and where it is unreadable.
        obj: the object, where one is readable.
        problem: why it is not readable.
    """

    type: str
    version: str
    key: Key | None = None
    obj: Watched | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An ``ERROR`` event: the API server ends the watch for a reason.

    Attributes:
        code: the HTTP status that it stands for, 0 if unreadable.
        reason: the machine's word for it, such as ``Expired``.
        message: the text for people.
    """

    code: int
    reason: str
    message: str

    @property
    def expired(self) -> bool:
        """Whether only a new list helps: the version is too old, or newer than the server's data.

        The latter is met after etcd came back from a backup (apiserver storage errors.go,
        NewTooLargeResourceVersionError: a Timeout with a cause of its own).
        """
        return (
            self.code == 410  # noqa: PLR2004 - Gone
            or self.reason in {"Expired", "Gone"}
            or "Too large resource version" in self.message
        )


def decode_page(resource: Resource, body: bytes) -> Page:
    """Read a page of a list.

    Raises:
        ProtocolError: this is no list.
    """
    found = _typed(resource, body, _LISTS[resource.kind])
    if found is None:
        return _page_of_any(resource, body)
    page = _page_of(resource, found)
    for obj in found.items or ():
        problem = badly_named(obj)
        if problem is None:
            page.objects.append(obj)
        else:
            page.problems.append(problem)
    return page


def decode_heads(resource: Resource, body: bytes) -> Page:
    """Read of a page only which objects there are, in which version.

    Raises:
        ProtocolError: this is no list.
    """
    found = _typed(resource, body, _HEADS)
    return _page_of_any(resource, body) if found is None else _page_of(resource, found)


def decode_event(resource: Resource, line: bytes) -> Event | Failure:
    """Read one line of a watch.

    Raises:
        ProtocolError: this is no event.
    """
    try:
        found = _EVENTS[resource.kind].decode(line)
    except msgspec.ValidationError:
        return _event_of_any(resource, line)
    except _UNREADABLE as error:
        raise ProtocolError(f"a watch of {resource.plural} brought no JSON: {error}") from None
    if found.type not in {"ADDED", "MODIFIED", "DELETED"}:
        return _event_of_any(resource, line)
    meta = found.object.metadata
    key = (meta.namespace, meta.name)
    problem = badly_named(found.object)
    obj = found.object if problem is None else None
    return Event(found.type, meta.resourceVersion or "", key, obj, problem)


def decode_failure(body: bytes, code: int = 0) -> Failure:
    """Read a ``Status``, the body of a refused request; whatever else it is becomes the message."""
    try:
        status = msgspec.json.decode(body)
    except _UNREADABLE:
        return Failure(code, "", body[:300].decode(errors="replace"))
    return _failure(status if isinstance(status, Mapping) else {}, code)


def _failure(status: Mapping[str, Any], code: int = 0) -> Failure:
    said = status.get("code")
    return Failure(
        said if isinstance(said, int) and said else code,
        str(status.get("reason") or "")[:80],
        str(status.get("message") or "")[:600],
    )


def _typed(resource: Resource, body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """A list of the API's types; None if something in it breaks them."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        return None
    except _UNREADABLE as error:
        raise _no_list(resource, error) from None


def _page_of(resource: Resource, found: _Services | _Slices | _Pods | _Heads) -> Page:
    page = _page(resource, found.metadata)
    for item in found.items or ():
        meta = item.metadata
        page.seen[meta.namespace, meta.name] = meta.resourceVersion or ""
    return page


def _no_list(resource: Resource, error: Exception) -> ProtocolError:
    return ProtocolError(f"the list of {resource.plural} is none: {error}")


def _page(resource: Resource, meta: _ListMeta) -> Page:
    if not meta.resourceVersion:
        raise ProtocolError(f"the list of {resource.plural} has no metadata.resourceVersion")
    return Page(meta.resourceVersion, meta.continue_ or "")


def _page_of_any(resource: Resource, body: bytes) -> Page:
    """A page in which something breaks the API's types, object by object."""
    try:
        found = _ANY_LIST.decode(body)
    except _UNREADABLE as error:
        raise _no_list(resource, error) from None
    page = _page(resource, found.metadata)
    for i, raw in enumerate(found.items or ()):
        key, version = _identity(raw)
        if key is not None:
            page.seen[key] = version
        obj = decode_as(resource.kind, raw, "" if key else f"{resource.plural} list, item {i}")
        if isinstance(obj, Problem):
            page.problems.append(obj)
        else:
            page.objects.append(obj)
    return page


def _event_of_any(resource: Resource, line: bytes) -> Event | Failure:
    """A bookmark, an error, or an object that breaks the API's types."""
    try:
        found = _ANY_EVENT.decode(line)
    except _UNREADABLE as error:
        raise ProtocolError(f"a watch of {resource.plural} brought no event: {error}") from None
    if found.type == "ERROR":
        return _failure(found.object)
    key, version = _identity(found.object)
    if found.type == "BOOKMARK":
        return Event("BOOKMARK", version)
    if found.type not in {"ADDED", "MODIFIED", "DELETED"}:
        raise ProtocolError(f"a watch of {resource.plural} brought an event {found.type[:40]!r}")
    obj = decode_as(resource.kind, found.object, "" if key else f"{resource.plural} watch")
    if isinstance(obj, Problem):
        return Event(found.type, version, key, None, obj)
    return Event(found.type, version, key, obj)


def _identity(raw: object) -> tuple[Key | None, str]:
    """Key and resourceVersion of an object, as far as they are readable."""
    meta = raw.get("metadata") if isinstance(raw, Mapping) else None
    if not isinstance(meta, Mapping):
        return None, ""
    version = meta.get("resourceVersion")
    if not isinstance(version, str):
        version = ""
    name, namespace = meta.get("name"), meta.get("namespace") or "default"
    if not (isinstance(name, str) and isinstance(namespace, str) and name):
        return None, version
    return (namespace, name), version


def number(version: str) -> int | None:
    """A resourceVersion as the number that it is, None for one that isn't.

    Versions of one resource can be compared (KEP-5504); where they can't, nothing is assumed.
    """
    return int(version) if version.isascii() and version.isdigit() else None


def differences(known: Mapping[Key, str], listed: Mapping[Key, str]) -> Iterator[Key]:
    """The objects that one has and the other has not, or has in another version."""
    for key in known.keys() | listed.keys():
        if known.get(key) != listed.get(key):
            yield key
