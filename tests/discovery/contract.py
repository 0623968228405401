"""What every source promises. Another source passes the same suite: give it a ``World``.

A world changes what the source reads, and makes sources over it. Each of them begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol

from trimtab.discovery import Source
from trimtab.model import Problem, Snapshot, Synced, Updated

WITHIN_S = 20


class World(Protocol):
    """The world that a source looks at. Documents are Kubernetes objects as mappings."""

    problems: list[Problem]

    def source(self) -> Source:
        """A new source, which reports to ``problems``."""

    def apply(self, *documents: dict[str, Any]) -> None:
        """Create or replace objects."""

    def delete(self, document: dict[str, Any]) -> None:
        """Delete one."""


class Reader:
    """Reads a source's events and keeps the state that they tell."""

    def __init__(self, events: AsyncIterator[Any]) -> None:
        self._events = events
        self.clusters: dict[str, Snapshot] = {}
        self.log: list[Any] = []

    async def next(self) -> Any:
        event = await asyncio.wait_for(anext(self._events), WITHIN_S)
        self.log.append(event)
        if isinstance(event, Updated):
            self.clusters[event.snapshot.cluster] = event.snapshot
        elif not isinstance(event, Synced):
            assert event.cluster in self.clusters, f"{event} of a cluster that was never told of"
            del self.clusters[event.cluster]
        return event

    async def sync(self) -> Reader:
        while not isinstance(await self.next(), Synced):
            pass
        return self

    async def until(self, cluster: str, *targets: str) -> Reader:
        while cluster not in self.clusters or self.targets(cluster) != list(targets):
            await self.next()
        return self

    async def until_removed(self, cluster: str) -> Reader:
        while cluster in self.clusters:
            await self.next()
        return self

    def targets(self, cluster: str) -> list[str]:
        return [e.target for e in self.clusters[cluster].endpoints]


def reading(source: Source) -> aclosing:
    return aclosing(source.events())


def _objects(kube: Any) -> list[dict[str, Any]]:
    return [kube.service(), kube.endpoint_slice("a", "10.0.0.1", "10.0.0.2")]


async def delivers_all_that_is_there_before_synced(world: World, kube: Any) -> None:
    world.apply(*_objects(kube), kube.service("carts"))
    async with reading(world.source()) as events:
        reader = await Reader(events).sync()
        assert sorted(reader.clusters) == ["carts.shop:8080", "orders.shop:8080"]
        assert reader.targets("orders.shop:8080") == ["10.0.0.1:50051", "10.0.0.2:50051"]
        assert reader.clusters["carts.shop:8080"].endpoints == ()


async def an_empty_world_is_synced(world: World, kube: Any) -> None:
    async with reading(world.source()) as events:
        assert (await Reader(events).sync()).clusters == {}


async def tells_of_changes_and_deletions(world: World, kube: Any) -> None:
    world.apply(*_objects(kube))
    async with reading(world.source()) as events:
        reader = await Reader(events).sync()
        world.apply(kube.endpoint_slice("a", "10.0.0.3"))
        await reader.until("orders.shop:8080", "10.0.0.3:50051")
        world.apply(kube.endpoint_slice("b", "10.0.0.4"))
        await reader.until("orders.shop:8080", "10.0.0.3:50051", "10.0.0.4:50051")
        world.delete(kube.endpoint_slice("a"))
        await reader.until("orders.shop:8080", "10.0.0.4:50051")
        world.delete(kube.service())
        await reader.until_removed("orders.shop:8080")
        world.apply(kube.service())
        await reader.until("orders.shop:8080", "10.0.0.4:50051")


async def says_synced_once_and_nothing_twice(world: World, kube: Any) -> None:
    world.apply(*_objects(kube))
    async with reading(world.source()) as events:
        reader = await Reader(events).sync()
        world.apply(*_objects(kube))  # the same again
        world.apply(kube.service("last"))
        await reader.until("last.shop:8080")
        assert reader.log.count(Synced()) == 1
        told = [e.snapshot for e in reader.log if isinstance(e, Updated)]
        assert len(told) == len({(s.cluster, s.version) for s in told})


async def one_bad_object_stops_no_other(world: World, kube: Any) -> None:
    world.apply(*_objects(kube), kube.service("bad", ports=[{"name": "x", "port": "none"}]))
    async with reading(world.source()) as events:
        reader = await Reader(events).sync()
        assert list(reader.clusters) == ["orders.shop:8080"]
        assert any("bad" in p.where and p.value == "'none'" for p in world.problems)
        world.apply(kube.endpoint_slice("a", "10.0.0.9"))
        await reader.until("orders.shop:8080", "10.0.0.9:50051")


async def an_object_that_turns_bad_stays_as_it_was(world: World, kube: Any) -> None:
    world.apply(*_objects(kube))
    async with reading(world.source()) as events:
        reader = await Reader(events).sync()
        world.apply(kube.endpoint_slice("a") | {"endpoints": "none"}, kube.service("next"))
        await reader.until("next.shop:8080")
        world.apply(kube.service("later"))
        await reader.until("later.shop:8080")
        assert reader.targets("orders.shop:8080") == ["10.0.0.1:50051", "10.0.0.2:50051"]
        world.apply(kube.endpoint_slice("a", "10.0.0.5"))
        await reader.until("orders.shop:8080", "10.0.0.5:50051")


async def can_be_closed_at_any_time(world: World, kube: Any) -> None:
    world.apply(*_objects(kube))
    before = asyncio.all_tasks()
    async with reading(world.source()) as events:
        await Reader(events).next()
    async with reading(world.source()) as events:
        reader = await Reader(events).sync()
        waiting = asyncio.ensure_future(reader.next())
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(WITHIN_S):
        while asyncio.all_tasks() - before:
            await asyncio.wait(asyncio.all_tasks() - before)


PROMISES = (
    delivers_all_that_is_there_before_synced,
    an_empty_world_is_synced,
    tells_of_changes_and_deletions,
    says_synced_once_and_nothing_twice,
    one_bad_object_stops_no_other,
    an_object_that_turns_bad_stays_as_it_was,
    can_be_closed_at_any_time,
)
