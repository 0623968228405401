"""What pods add to endpoints: labels, weights and start times, for the Services that ask. Pure.

A Service asks with the annotation ``trimtab.dev/endpoint-labels``. An endpoint knows its pod by UID.
Nothing else of a pod is read or kept; a Service that does not ask costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from trimtab.discovery import ReportProblem
from trimtab.discovery.kube_objects import KubeObject, Pod, Service, short
from trimtab.discovery.service_annotations import WEIGHT, endpoint_labels
from trimtab.discovery.slices import SliceFold
from trimtab.model import Endpoint, Problem, Removed, Snapshot, Updated

Key = tuple[str, str]  # namespace, name
_WEIGHT = re.compile(r"[1-9][0-9]{0,5}")
_WEIGHT_FIX = "write a whole number from 1 to 999999; 1 is used"


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is kept of a pod."""

    uid: str
    labels: tuple[tuple[str, str], ...]
    weight: int
    ready_since: float | None


class PodFacts:
    """The pods of the namespaces whose Services ask.

    Args:
        report: hears of every rejected annotation; of the Services' own the fold tells.

    Attributes:
        wanted: the namespaces whose pods are wanted, with the labels that are kept of them.
    """

    def __init__(self, report: ReportProblem) -> None:
        self._report = report
        self.wanted: Mapping[str, frozenset[str]] = {}
        self._asked: dict[Key, tuple[str, ...]] = {}
        self._pods: dict[Key, _Facts] = {}
        self._by_uid: dict[str, _Facts] = {}
        # Of each cluster that asks, as the fold told it.
        self._plain: dict[str, Snapshot] = {}

    def ask(self, service: Service) -> bool:
        """Take in what a Service asks for. Whether that has changed."""
        key = (service.metadata.namespace, service.metadata.name)
        wanted = endpoint_labels(service)
        if wanted == self._asked.get(key):
            return False
        if wanted is None:
            self.forget_service(key)
        else:
            self._asked[key] = wanted
            self._want()
        return True

    def fold(self, fold: SliceFold, obj: KubeObject) -> list[Updated | Removed]:
        """Apply an object to the fold; a Service that asks otherwise than before is told anew."""
        asked = isinstance(obj, Service) and self.ask(obj)
        events = fold.apply(obj)
        if asked and not events:
            key = (obj.metadata.namespace, obj.metadata.name)
            events = [Updated(s) for s in fold.clusters() if _service(s) == key]
        return events

    def forget_service(self, key: Key) -> None:
        """A Service was deleted, or asks no more."""
        if self._asked.pop(key, None) is None:
            return
        self._plain = {
            name: snapshot for name, snapshot in self._plain.items() if _service(snapshot) != key
        }
        self._want()

    def forget_namespace(self, namespace: str) -> None:
        """Nobody there asks any more: nothing of its pods is kept."""
        self.keep_only(namespace, ())

    def keep_only(self, namespace: str, keys: Iterable[Key]) -> None:
        """These are all the pods of a namespace: whatever else is known there is gone."""
        kept = set(keys)
        for key in [key for key in self._pods if key[0] == namespace and key not in kept]:
            self.remove(key)

    def put(self, pod: Pod) -> str:
        """A pod was added or changed. Its UID if that is of use to anybody, else ""."""
        key = (pod.metadata.namespace, pod.metadata.name)
        facts = self._read(pod)
        if self._pods.get(key) == facts:
            return ""
        old = self._pods.pop(key, None)
        if old is not None:
            self._by_uid.pop(old.uid, None)
        self._pods[key] = facts
        self._by_uid[facts.uid] = facts
        return facts.uid

    def remove(self, key: Key) -> None:
        """A pod is gone, and its endpoints soon are."""
        old = self._pods.pop(key, None)
        if old is not None:
            self._by_uid.pop(old.uid, None)

    def touched(self, namespace: str, uids: Iterable[str]) -> Iterator[Updated]:
        """The clusters of a namespace in which these pods are, with what is known now."""
        pods = {uid for uid in uids if uid}
        for snapshot in self._plain.values():
            if _service(snapshot)[0] != namespace:
                continue
            if any(endpoint.uid in pods for endpoint in snapshot.endpoints):
                yield Updated(self._enriched(snapshot))

    def enrich(self, event: Updated | Removed) -> Updated | Removed:
        """An event of the fold's, with what is known of the pods."""
        if isinstance(event, Removed):
            self._plain.pop(event.cluster, None)
            return event
        if _service(event.snapshot) not in self._asked:
            return event
        self._plain[event.snapshot.cluster] = event.snapshot
        return Updated(self._enriched(event.snapshot))

    def _want(self) -> None:
        found: dict[str, frozenset[str]] = {}
        for (namespace, _), labels in self._asked.items():
            found[namespace] = found.get(namespace, frozenset()) | set(labels)
        self.wanted = found

    def _enriched(self, snapshot: Snapshot) -> Snapshot:
        labels = self._asked[_service(snapshot)]
        return Snapshot.presorted(
            snapshot.cluster,
            tuple(self._endpoint(endpoint, labels) for endpoint in snapshot.endpoints),
            snapshot.policy,
            snapshot.service,
        )

    def _endpoint(self, endpoint: Endpoint, labels: tuple[str, ...]) -> Endpoint:
        facts = self._by_uid.get(endpoint.uid) if endpoint.uid else None
        if facts is None:
            return endpoint
        return replace(
            endpoint,
            labels=tuple(pair for pair in facts.labels if pair[0] in labels),
            weight=facts.weight,
            ready_since=facts.ready_since,
        )

    def _read(self, pod: Pod) -> _Facts:
        meta = pod.metadata
        wanted = self.wanted.get(meta.namespace, frozenset())
        given = meta.annotations.weight if meta.annotations else None
        weight = 1
        if given is not None:
            if _WEIGHT.fullmatch(given):
                weight = int(given)
            else:
                where = f"Pod {meta.namespace}/{meta.name}"
                path = f"metadata.annotations[{WEIGHT}]"
                self._report(Problem(where, path, short(given), _WEIGHT_FIX))
        kept = sorted((k, v or "") for k, v in (meta.labels or {}).items() if k in wanted)
        return _Facts(meta.uid or "", tuple(kept), weight, _started(pod))


def _service(snapshot: Snapshot) -> Key:
    port = snapshot.service
    return (port.namespace, port.service) if port else ("", "")


def _started(pod: Pod) -> float | None:
    """When the last of its containers started [Unix seconds]; None while one is not running."""
    found: list[float] = []
    for container in (pod.status.containerStatuses if pod.status else None) or ():
        running = container.state.running if container.state else None
        if running is None or not running.startedAt:
            return None
        try:
            moment = datetime.fromisoformat(running.startedAt)
            found.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        except (ValueError, OverflowError):
            return None
    return max(found, default=None)
