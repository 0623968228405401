"""The pods of the namespaces whose Services ask for them, watched while they ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from trimtab.discovery.kube_objects import Pod
from trimtab.discovery.kubernetes.api import Target
from trimtab.discovery.kubernetes.reflector import Gone, Reflector
from trimtab.discovery.kubernetes.wire import PODS
from trimtab.discovery.pods import PodFacts
from trimtab.model import Updated

_LOOK_AGAIN_S = 0.2  # whether a first list has failed


@dataclass(slots=True)
class _Watch:
    """One namespace's.

    Attributes:
        labels: what is kept of each pod; if that changes, all have to be read anew.
        reflector: reads them.
        listed: whether all were read once.
        tasks: which read and check.
    """

    labels: frozenset[str]
    reflector: Reflector
    listed: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class PodWatches:
    """Starts and ends the watches.

    Args:
        facts: what the pods say goes there.
        make: a reflector of a target.
        check: compares a reflector with the API server, for ever; None: never.
        tell: hears of the clusters of a namespace that came out different.
    """

    def __init__(
        self,
        facts: PodFacts,
        make: Callable[[Target], Reflector],
        check: Callable[[Reflector], Coroutine[Any, Any, None]] | None,
        tell: Callable[[str, Sequence[Updated]], None],
    ) -> None:
        self._facts = facts
        self._make = make
        self._check = check
        self._tell = tell
        self._watches: dict[str, _Watch] = {}

    @property
    def ready(self) -> bool:
        """Whether all pods that are wanted were read, or can't be for now."""
        return all(
            watch.listed or watch.reflector.contact().failing_since is not None
            for watch in self._watches.values()
        )

    def reflectors(self) -> list[Reflector]:
        """Those that run."""
        return [watch.reflector for watch in self._watches.values()]

    def tasks(self) -> list[asyncio.Task[None]]:
        """Those that run; none ever ends but by a fault of ours."""
        return [task for watch in self._watches.values() for task in watch.tasks]

    def patience(self, due: float | None, now: float, *, synced: bool) -> float | None:
        """How long the source may wait for news [s]; None: for ever."""
        wait = None if due is None else max(0.0, due - now)
        if synced or self.ready:
            return wait
        return _LOOK_AGAIN_S if wait is None else min(wait, _LOOK_AGAIN_S)

    def follow(self) -> None:
        """Read what is asked for now, and nothing else."""
        wanted = self._facts.wanted
        for namespace, watch in list(self._watches.items()):
            if wanted.get(namespace) != watch.labels:
                for task in watch.tasks:
                    task.cancel()
                del self._watches[namespace]
                if namespace not in wanted:
                    self._facts.forget_namespace(namespace)
        for namespace, labels in wanted.items():
            if namespace not in self._watches:
                reflector = self._make(Target(PODS, namespace))
                watch = self._watches[namespace] = _Watch(labels, reflector)
                watch.tasks.append(asyncio.create_task(self._read(namespace, watch)))
                if self._check is not None:
                    watch.tasks.append(asyncio.create_task(self._check(reflector)))

    async def _read(self, namespace: str, watch: _Watch) -> None:
        async for batch in watch.reflector.batches():
            changed: list[str] = []
            for item in batch.items:
                if isinstance(item, Gone):
                    self._facts.remove(item.key)
                elif isinstance(item, Pod):
                    changed.append(self._facts.put(item))
            if not watch.listed:
                # Those that a watch before this one knew.
                keys = [i.key if isinstance(i, Gone) else _key(i) for i in batch.items]
                self._facts.keep_only(namespace, keys)
                watch.listed = True
            self._tell(namespace, list(self._facts.touched(namespace, changed)))


def _key(item: Any) -> tuple[str, str]:
    return (item.metadata.namespace, item.metadata.name)
