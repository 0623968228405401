"""The first Envoy that wants thousands of clusters leaves the event loop to others."""

import asyncio
import gc

import pytest

from loop_gaps import Gaps
from plane import QueueSource, RawClient, eventually, pause, running, updated
from trimtab.control.stream import DRAINED
from trimtab.model import Synced
from trimtab.xds import type_urls

MOST_S = 0.1  # of processor time; encoded in one go, the endpoints of 5,000 take 0.35 s


async def everything(client, many, *, delta):
    """Ask as an Envoy does: all clusters, then the endpoints of each."""
    stream = client.delta() if delta else client.sotw()
    wanted = "resource_names_subscribe" if delta else "resource_names"
    await stream.hello(type_url=type_urls.CDS, **{wanted: ["*"]})
    names = [f"service-{n}.shop:8080" for n in range(many)]
    clusters = await received(stream, many)
    await stream.send(type_url=type_urls.EDS, **{wanted: names})
    return clusters, await received(stream, many)


async def received(stream, many):
    count = 0
    while count < many:
        count += len((await stream.read(within=90)).resources)
    return count


# A full set of 5,000 would be all that a gRPC client takes in one message.
@pytest.mark.parametrize(("delta", "many"), [(True, 5000), (False, 4000)])
async def test_the_first_envoy_of_many_clusters_holds_nobody_up(delta, many):
    events = [updated(f"service-{n}", *range(1, 11)) for n in range(many)]
    async with (
        running(QueueSource(*events, Synced())) as plane,
        RawClient(plane.xds_address) as client,
    ):
        await plane.store.synced.wait()
        gc.collect()
        gc.disable()  # its pauses come with any work
        gaps = Gaps()
        try:
            counts = await everything(client, many, delta=delta)
        finally:
            gaps.stop()
            gc.enable()
    assert counts == (many, many)
    assert gaps.longest < MOST_S


@pytest.mark.parametrize("agent", ["envoy", "trimtab"])
async def test_a_cluster_of_sixty_thousand_endpoints_holds_nobody_up(agent):
    many = range(1, 60_001)
    source = QueueSource(updated("orders", *many), Synced())
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        await plane.store.synced.wait()
        after = updated("orders", *many[1:], 60_001)
        gc.collect()
        gc.disable()
        gaps = Gaps()
        try:
            stream = client.sotw(agent=agent)
            await stream.hello(type_url=type_urls.EDS, resource_names=["orders.shop:8080"])
            first = await stream.read(within=90)
            source.put(after)
            await stream.ack(first, resource_names=["orders.shop:8080"])
            await stream.read(within=90)
        finally:
            gaps.stop()
            gc.enable()
    assert gaps.longest < MOST_S


async def test_a_stream_that_ends_in_the_middle_encodes_no_more_and_others_get_theirs():
    events = [updated(f"service-{n}", 1) for n in range(4000)]
    async with (
        running(QueueSource(*events, Synced())) as plane,
        RawClient(plane.xds_address) as client,
    ):
        await plane.store.synced.wait()
        leaving = client.delta()
        await leaving.hello(type_url=type_urls.CDS, resource_names_subscribe=["*"])
        streams = plane.server.streams
        async with asyncio.timeout(10):
            while not any(not stream.session.prepared for stream in streams):
                await pause(0)
        (stream,) = streams
        stream.end(DRAINED)
        await eventually(lambda: not streams)
        assert not stream.session.prepared
        assert await everything(client, 4000, delta=True) == (4000, 4000)
