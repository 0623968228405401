"""What one client may cost, on real sockets."""

import asyncio
import contextlib
from collections import Counter
from random import Random

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane import QueueSource, RawClient, eventually, get, running, updated
from trimtab.control.config import Config
from trimtab.control.limits import Limits, RequestRate
from trimtab.model import Synced
from trimtab.xds import type_urls

ORDERS = "orders.shop:8080"


@contextlib.asynccontextmanager
async def limited(**limits):
    """A control plane with these limits, and a client of it."""
    source = QueueSource(updated("orders", 1), Synced())
    async with (
        running(source, config=Config(limits=Limits(**limits))) as plane,
        RawClient(plane.xds_address) as client,
    ):
        await plane.store.synced.wait()
        yield plane, client


async def ended(stream):
    """How a stream ends, whatever was sent before."""
    with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
        while await stream.read() is not grpc.aio.EOF:
            pass
    return await stream.status()


async def metrics(plane):
    return (await get(plane.admin_address, "/metrics"))[2]


@pytest.mark.parametrize("limit", ["streams", "streams_per_identity"])
async def test_streams_beyond_the_limit_are_refused_and_come_in_when_others_go(limit):
    async with limited(**{limit: 2}) as (plane, client):
        open_ones = [client.sotw() for _ in range(2)]
        for stream in open_ones:
            await stream.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
            await stream.read()
        code, text = await ended(client.sotw())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"limits.{limit}: 2" in text
        assert f'trimtab_streams_refused_total{{reason="{limit}"}} 1' in await metrics(plane)
        open_ones[0].call.cancel()
        await eventually(lambda: len(plane.server.streams) == 1)
        late = client.sotw()
        await late.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
        assert (await late.read()).resources


@pytest.mark.parametrize(
    ("limit", "request_", "named"),
    [
        ({"names_per_stream": 2}, {"resource_names": ["a", "b", "c"]}, "limit of 2"),
        ({"name_length": 8}, {"resource_names": ["a" * 9]}, "limit of 8"),
        ({"request_bytes": 200}, {"resource_names": ["a" * 300]}, "limit of 200"),
        ({"node_bytes": 5}, {"resource_names": ["a"]}, "limit of 5"),
    ],
)
async def test_a_request_beyond_a_limit_ends_its_stream_and_names_the_limit(limit, request_, named):
    async with limited(**limit) as (plane, client):
        stream = client.sotw()
        await stream.hello(type_url=type_urls.CDS, **request_)
        code, text = await ended(stream)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert named in text
        assert "trimtab_protocol_errors_total 1" in await metrics(plane)


async def test_a_message_far_beyond_the_limit_is_not_even_read():
    async with limited(request_bytes=1000) as (_plane, client):
        stream = client.sotw()
        await stream.hello(type_url=type_urls.CDS, resource_names=["a" * 200_000])
        assert (await ended(stream))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_that_asks_too_often_waits_and_others_do_not():
    async with limited(requests_per_second=1.0, request_burst=5) as (plane, client):
        greedy = client.sotw()
        await greedy.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
        for _ in range(50):
            await greedy.send(type_url=type_urls.CDS, resource_names=[ORDERS])
        throttled = "trimtab_requests_throttled_total"
        await eventually(lambda: plane.counters.get(throttled))
        modest = client.sotw()
        await modest.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
        assert (await modest.read()).resources
        assert plane.counters.get("trimtab_requests_total") < 20


async def test_streams_end_at_their_age_and_may_come_again():
    async with limited(connection_age_s=1.0) as (plane, client):
        stream = client.sotw()
        await stream.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
        code, text = await ended(stream)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "connect again" in text
        assert 'trimtab_stream_ends_total{reason="connection_age"} 1' in await metrics(plane)
        again = client.sotw()
        await again.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
        assert (await again.read()).resources


def test_the_ends_of_streams_that_began_together_are_spread_over_a_fifth_of_their_age():
    random = Random(1)
    ages = sorted(Limits(connection_age_s=100.0).draw_age(random) for _ in range(1000))
    assert 90 <= ages[0] <= ages[-1] <= 110
    # Of 1,000 uniform draws an interval of the 20 s gets n * p, within five deviations; here p = 1/10.
    in_tenths = Counter(int((age - 90) / 2) for age in ages)
    assert all(50 < in_tenths[tenth] < 150 for tenth in range(10)), in_tenths


async def closed_by_server(reader):
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                pass
    return True


async def test_a_connection_that_says_nothing_is_closed_and_costs_others_nothing():
    async with limited(handshake_s=2.0) as (plane, client):
        address = plane.xds_address
        silent = [await asyncio.open_connection(address.host, address.port) for _ in range(100)]
        stream = client.sotw()
        await stream.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
        assert (await stream.read()).resources
        assert all(await asyncio.gather(*(closed_by_server(r) for r, _ in silent)))
        for _, writer in silent:
            writer.close()


async def test_connections_beyond_the_limit_are_closed_at_once():
    async with limited(connections=3) as (plane, client):
        stream = client.sotw()
        await stream.hello(type_url=type_urls.CDS, resource_names=[ORDERS])
        assert (await stream.read()).resources
        address = plane.xds_address
        opened = [await asyncio.open_connection(address.host, address.port) for _ in range(20)]
        closing = [asyncio.ensure_future(closed_by_server(r)) for r, _ in opened]
        await eventually(lambda: sum(c.done() for c in closing) >= 18)
        assert not stream.call.done()
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
        for _, writer in opened:
            writer.close()


@given(gaps=st.lists(st.floats(0, 0.1), min_size=1, max_size=200))
def test_a_rate_is_never_exceeded_by_more_than_its_burst(gaps):
    now, rate = 0.0, RequestRate(10.0, 5, 0.0)
    for taken, gap in enumerate(gaps, 1):
        now += gap
        wait = rate.take(now)
        assert wait >= 0
        now += wait
        assert taken <= 5 + 10 * now + 1e-6


def test_answers_to_what_was_sent_cost_nothing():
    rate = RequestRate(1.0, 2, 0.0)
    for _ in range(1000):
        rate.answer_due()
        assert not rate.take(0.0)
