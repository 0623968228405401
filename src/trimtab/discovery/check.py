"""What is wrong with manifests, before they are used. Blocking; for the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trimtab.discovery.addresses import AddressRules
from trimtab.discovery.kube_objects import (
    SERVICE_LABEL,
    EndpointSlice,
    KubeObject,
    Pod,
    Service,
    ServiceSpec,
    describe,
    short,
)
from trimtab.discovery.manifest_files import MAX_BYTES, MAX_GRACE_S, ManifestFiles
from trimtab.discovery.pods import PodFacts
from trimtab.discovery.service_annotations import unknown_annotations
from trimtab.discovery.slices import SliceFold
from trimtab.model import Problem, Snapshot


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the manifests of a path come to.

    Attributes:
        snapshots: the clusters, sorted by name.
        problems: what ``trimtab serve`` rejects.
        warnings: what it takes, but what may not be meant.
        files: how many files were read.
        ignored: how many objects of other kinds are in them.
    """

    snapshots: tuple[Snapshot, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    files: int
    ignored: int

    @property
    def endpoints(self) -> int:
        """How many endpoints the clusters have together."""
        return sum(len(snapshot.endpoints) for snapshot in self.snapshots)


def check(path: Path, *, max_bytes: int = MAX_BYTES) -> CheckResult:
    """Read everything once, as ``Manifests`` does.

    Raises:
        DiscoveryError: ``path`` is not there, or can't be read.
    """
    problems: list[Problem] = []
    files = ManifestFiles(path, problems.append, max_bytes=max_bytes)
    files.require("PATH")
    # The second reading, as if later, ends the doubt whether a broken file is still being written.
    files.read(0.0)
    files.read(2 * MAX_GRACE_S)
    found = files.objects().values()
    objects = [obj for obj in found if not isinstance(obj, Pod)]
    fold = SliceFold(problems.append, rules=AddressRules(allow_loopback=True))
    facts = PodFacts(problems.append)
    for obj in sorted(objects, key=lambda o: isinstance(o, Service)):  # slices first: one fold each
        facts.fold(fold, obj)
    for pod in found:
        if isinstance(pod, Pod) and pod.metadata.namespace in facts.wanted:
            facts.put(pod)
    warnings = [*fold.loose_ends(), *_warnings(objects)]
    if not problems and not objects:
        fix = "no Service is in it, so no cluster comes of it; is it the right place?"
        warnings.append(Problem(str(path), "", "", fix))
    return CheckResult(
        tuple(sorted(fold.clusters(), key=lambda s: s.cluster)),
        tuple(dict.fromkeys(problems)),
        tuple(dict.fromkeys(warnings)),
        len(files),
        files.ignored,
    )


def _warnings(objects: list[KubeObject]) -> Iterator[Problem]:
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for obj in objects:
        if isinstance(obj, EndpointSlice):
            service = obj.metadata.label(SERVICE_LABEL)
            slices.setdefault((obj.metadata.namespace, service), []).append(obj)
            if not service:
                yield Problem(
                    describe("EndpointSlice", obj.metadata),
                    f"metadata.labels[{SERVICE_LABEL}]",
                    "",
                    "it belongs to no Service and is not used; name its Service here",
                )
    for obj in objects:
        if isinstance(obj, Service):
            yield from unknown_annotations(obj)
            own = slices.get((obj.metadata.namespace, obj.metadata.name), [])
            yield from _service_warnings(obj, obj.spec or ServiceSpec(), own)


def _service_warnings(
    service: Service, spec: ServiceSpec, slices: list[EndpointSlice]
) -> Iterator[Problem]:
    where = describe("Service", service.metadata)
    if spec.type == "ExternalName":
        return
    ports = [port for port in spec.ports or () if (port.protocol or "TCP") == "TCP"]
    if not ports:
        yield Problem(where, "spec.ports", "", "it has no TCP port, so it is no cluster; give one")
    if not slices:
        yield Problem(
            where, "", "", "no EndpointSlice belongs to it, so its clusters are empty; add one"
        )
        return
    names = {port.name or "" for one in slices for port in one.ports or ()}
    for i, port in enumerate(spec.ports or ()):
        if port in ports and (port.name or "") not in names:
            yield Problem(
                where,
                f"spec.ports[{i}].name",
                short(port.name or ""),
                "no EndpointSlice of this Service has a port of that name, so its cluster is "
                f"empty; they have {', '.join(map(repr, sorted(names))) or 'none'}",
            )
