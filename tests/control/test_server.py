import asyncio
import logging
from itertools import cycle, islice
from pathlib import Path

import grpc
import grpc._cython.cygrpc
import pytest

from harness.waiting import measured
from plane import (
    ADS,
    EDS_SERVICE,
    QueueSource,
    RawClient,
    assignments,
    eventually,
    running,
    updated,
)
from trimtab.control import metrics
from trimtab.control.server import _OPTIONS
from trimtab.model import Removed, Synced, Updated
from trimtab.xds import type_urls
from trimtab.xds.type_urls import CDS, EDS

ORDERS = "orders.shop:8080"


def ours(caplog):
    """Log lines of ours and of gRPC's handlers. asyncio's may speak of the loop of an earlier test:
    gRPC has one completion queue per process, which tells whichever loop polls it next.
    """
    return [r for r in caplog.records if r.name.startswith(("trimtab", "grpc"))]


@pytest.fixture
def source():
    return QueueSource(updated("orders", 1, 2), Synced())


async def test_a_sotw_client_gets_its_endpoints_and_each_change(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw()
        await stream.hello(type_url=EDS, resource_names=[ORDERS])
        first = await stream.read()
        assert assignments(first) == {ORDERS: [1, 2]}
        await stream.ack(first, resource_names=[ORDERS])
        source.put(updated("orders", 2, 3))
        second = await stream.read()
        assert assignments(second) == {ORDERS: [2, 3]}
        assert second.version_info != first.version_info
        assert second.nonce != first.nonce


async def test_a_stream_at_rest_holds_one_task_less_than_one_that_is_written_to(source):
    def writers():
        return [task for task in asyncio.all_tasks() if task.get_name() == "writing a stream"]

    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw()
        await stream.hello(type_url=EDS, resource_names=[ORDERS])
        await stream.ack(await stream.read(), resource_names=[ORDERS])
        await eventually(lambda: not writers())
        (served,) = plane.server.streams
        assert served.changed([ORDERS], 0.0)
        assert served.changed([ORDERS], 0.0)
        assert len(writers()) == 1
        await eventually(lambda: not writers())
        source.put(updated("orders", 3))
        assert assignments(await stream.read()) == {ORDERS: [3]}


async def test_a_delta_client_gets_its_endpoints_each_change_and_the_removal(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.delta()
        await stream.hello(type_url=EDS, resource_names_subscribe=[ORDERS])
        first = await stream.read()
        assert assignments(first) == {ORDERS: [1, 2]}
        await stream.ack(first)
        source.put(updated("orders", 3))
        second = await stream.read()
        assert assignments(second) == {ORDERS: [3]}
        await stream.ack(second)
        source.put(Removed(ORDERS))
        third = await stream.read()
        assert list(third.removed_resources) == [ORDERS]


@pytest.mark.parametrize("service", [f"{EDS_SERVICE}/StreamEndpoints", EDS_SERVICE])
async def test_the_separate_endpoint_service_answers_sotw_and_delta(source, service):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        if service == EDS_SERVICE:
            stream = client.delta(method=f"{EDS_SERVICE}/DeltaEndpoints")
            await stream.hello(type_url=EDS, resource_names_subscribe=["orders.shop:grpc"])
        else:
            stream = client.sotw(method=service)
            await stream.hello(resource_names=["orders.shop:grpc"])
        assert assignments(await stream.read()) == {"orders.shop:grpc": [1, 2]}


async def test_every_discovery_service_exists_in_both_transports(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        for package, service, plural, type_url in (
            ("cluster", "Cluster", "Clusters", CDS),
            ("endpoint", "Endpoint", "Endpoints", EDS),
            ("listener", "Listener", "Listeners", type_urls.LDS),
            ("route", "Route", "Routes", type_urls.RDS),
        ):
            path = f"/envoy.service.{package}.v3.{service}DiscoveryService"
            sotw = client.sotw(method=f"{path}/Stream{plural}")
            await sotw.hello(resource_names=[ORDERS])
            assert (await sotw.read()).type_url == type_url
            delta = client.delta(method=f"{path}/Delta{plural}")
            await delta.hello(type_url=type_url, resource_names_subscribe=[ORDERS])
            assert [r.name for r in (await delta.read()).resources] == [ORDERS]


async def test_an_unknown_method_is_unimplemented(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw(method=f"{ADS}/StreamEverything")
        code, _ = await stream.status()
        assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_nothing_is_answered_before_every_source_has_synced():
    quick, slow = QueueSource(updated("orders", 1), Synced()), QueueSource()
    async with running(quick, slow) as plane, RawClient(plane.xds_address) as client:
        streams = [client.sotw(), client.delta()]
        await streams[0].hello(type_url=EDS, resource_names=[ORDERS])
        await streams[1].hello(type_url=EDS, resource_names_subscribe=[ORDERS])
        await eventually(lambda: plane.counters.get(metrics.REQUESTS) == 2)
        assert all([await s.silent() for s in streams])
        slow.put(Synced())
        for stream in streams:
            assert assignments(await stream.read_after_silence()) == {ORDERS: [1]}


async def test_a_client_that_does_not_read_costs_one_message_is_ended_and_disturbs_nobody(caplog):
    fat = [f"svc{i}" for i in range(40)]
    source = QueueSource(*(updated(name, *range(1, 3000)) for name in fat), Synced())
    async with (
        running(source, write_deadline_s=0.5) as plane,
        RawClient(plane.xds_address) as slow,
        RawClient(plane.xds_address) as quick,
    ):
        stuck = slow.sotw()
        await stuck.hello(type_url=EDS, resource_names=[f"{name}.shop:8080" for name in fat])
        good = quick.sotw()
        await good.hello(type_url=EDS, resource_names=["new.shop:8080"])
        await eventually(lambda: plane.counters.get(metrics.REQUESTS) == 2)
        # By turns: to make 3,000 endpoints takes longer than to send them.
        turns = [[updated(name, n, *range(3000, 6000)) for name in fat] for n in (1, 2)]

        def sent():
            return plane.counters.get(metrics.RESPONSES, "EDS")

        def ended():
            return plane.counters.get(metrics.WRITE_DEADLINES)

        for turn in islice(cycle(turns), 200):
            before = sent()
            source.put(*turn)
            # All of it, so that a busy machine does not make several turns into one: some fill the transport.
            await eventually(
                lambda before=before: (
                    ended()
                    or (sent() > before and all(s._writer is None for s in plane.server.streams))
                )
            )
            if ended():
                break
        await eventually(lambda: plane.counters.get(metrics.WRITE_DEADLINES) == 1)
        await eventually(lambda: len(plane.server.streams) == 1)
        source.put(updated("new", 7))
        while assignments(await good.read()) != {"new.shop:8080": [7]}:
            pass
        assert plane.counters.get(metrics.STREAM_ENDS, "write_deadline") == 1
    assert [line for line in ours(caplog) if line.levelno >= logging.ERROR] == []


async def test_a_fault_on_one_stream_ends_it_with_internal_and_leaves_the_others(source, caplog):
    async with (
        running(source) as plane,
        RawClient(plane.xds_address) as victim,
        RawClient(plane.xds_address) as other,
    ):
        good, bad = other.sotw(), victim.sotw(agent="grpc-java")
        await good.hello(type_url=EDS, resource_names=[ORDERS])
        await good.ack(await good.read(), resource_names=[ORDERS])

        get_of = plane.store.catalog.get_of

        def faulty(cluster, type_url, name, client):
            if client.user_agent.startswith("grpc-java"):
                raise RuntimeError("boom")
            return get_of(cluster, type_url, name, client)

        plane.store.catalog.get_of = faulty
        await bad.hello(type_url=EDS, resource_names=[ORDERS])
        code, details = await bad.status()
        assert code is grpc.StatusCode.INTERNAL
        assert "boom" not in details
        assert "its log says more" in details
        assert plane.counters.get(metrics.EXCEPTIONS) == 1
        assert "boom" in caplog.text
        source.put(updated("orders", 9))
        assert assignments(await good.read()) == {ORDERS: [9]}


async def test_garbage_ends_its_stream_with_invalid_argument(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw()
        await stream.call.write(b"\xff\xff\xff")
        code, details = await stream.status()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details
        assert plane.counters.get(metrics.PROTOCOL_ERRORS) == 1


async def test_a_nack_is_logged_with_client_and_reason_counted_and_not_answered(source, caplog):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw()
        await stream.hello(type_url=EDS, resource_names=[ORDERS])
        response = await stream.read()
        long = "x" * 5000 + "\n\x1b[31mlocality weight must be\u2028 positive"
        await stream.send(
            type_url=EDS,
            resource_names=[ORDERS],
            response_nonce=response.nonce,
            error_detail={"code": 13, "message": long},
        )
        assert await stream.silent()
        assert plane.counters.get(metrics.NACKS, "EDS", "envoy") == 1
        (line,) = [r.getMessage() for r in caplog.records if "rejected" in r.getMessage()]
        assert "test-node" in line
        assert line.endswith("locality weight must be\\u2028 positive")
        assert "\x1b" not in line
        assert "\n" not in line
        assert len(line) < 1000


async def test_acks_responses_bytes_and_streams_are_counted(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw(agent="gRPC C-core")
        await stream.hello(type_url=EDS, resource_names=[ORDERS])
        await stream.ack(await stream.read(), resource_names=[ORDERS])
        counters = plane.counters
        await eventually(lambda: counters.get(metrics.ACKS, "EDS", "grpc") == 1)
        await eventually(lambda: counters.get(metrics.RESPONSES, "EDS") == 1)
        assert counters.get(metrics.RESPONSE_BYTES, "EDS") > 50
        plane.server.measure()
        assert counters.get(metrics.STREAMS, "ads", "sotw", "grpc") == 1
        source.put(updated("orders", 5))
        await stream.read()
        await eventually(lambda: counters.get(metrics.PUSHES) == 1)
        histograms = {m.name: h for m, h in counters.histograms()}[metrics.PUSH_SECONDS]
        await eventually(lambda: sum(histograms[()].counts) == 1)
        stream.call.cancel()
        await eventually(lambda: counters.get(metrics.STREAM_ENDS, "client_gone") == 1)
        await eventually(lambda: not plane.server.streams and not plane.store._listeners)
        plane.server.measure()
        assert counters.get(metrics.STREAMS, "ads", "sotw", "grpc") == 0


async def test_a_client_that_closes_its_side_is_let_go(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw()
        await stream.hello(type_url=EDS, resource_names=[ORDERS])
        await stream.read()
        await stream.call.done_writing()
        code, _ = await stream.status()
        assert code is grpc.StatusCode.OK
        assert plane.counters.get(metrics.STREAM_ENDS, "client_closed") == 1


async def test_draining_ends_the_streams_spread_over_its_time_in_the_seeds_order(source, caplog):
    caplog.set_level(logging.WARNING)
    loop = asyncio.get_running_loop()
    async with (
        running(source, drain_s=2.0, seed=7) as plane,
        RawClient(plane.xds_address) as client,
    ):
        streams = [client.sotw() for _ in range(20)]
        for stream in streams:
            await stream.hello(type_url=EDS, resource_names=[ORDERS])
            await stream.read()
        begin = loop.time()
        ends = []

        async def end(stream):
            code, _ = await stream.status()
            ends.append(loop.time() - begin)
            return code

        ending = [asyncio.create_task(end(s)) for s in streams]
        await plane.drain()
        codes = await asyncio.gather(*ending)
        assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
        # What has not ended by itself is cut off a second after the last could.
        assert max(ends) < 2.9
        # 20 uniform draws over 2 s: all within half of it has a chance of 2 ** -19.
        assert max(ends) - min(ends) > 1.0
        assert plane.counters.get(metrics.STREAM_ENDS, "drained") == 20
    assert ours(caplog) == []


async def test_stopping_with_open_streams_is_quick_and_leaves_no_traceback(caplog):
    caplog.set_level(logging.WARNING)
    loop, took = asyncio.get_running_loop(), []
    while not measured(took, below=1.0):
        one = QueueSource(updated("orders", 1, 2), Synced())
        async with running(one) as plane, RawClient(plane.xds_address) as client:
            streams = [client.sotw() for _ in range(30)]
            for stream in streams:
                await stream.hello(type_url=EDS, resource_names=[ORDERS])
                await stream.read()
            begin = loop.time()
            await plane.stop()
            took.append(loop.time() - begin)
            for stream in streams:
                code, _ = await stream.status()
                assert code is grpc.StatusCode.UNAVAILABLE
    assert min(took) < 1.0
    # A busy machine is no trace of the end.
    assert [r for r in ours(caplog) if r.name != "trimtab.control.loop_lag"] == []


def test_grpc_knows_every_option_that_the_server_sets():
    # It ignores an unknown name in silence, and with it whatever the option was to prevent.
    core = Path(grpc._cython.cygrpc.__file__).read_bytes()
    for name, _ in _OPTIONS:
        assert name.encode() + b"\0" in core, name


async def test_many_streams_at_once_are_all_served(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        streams = [client.sotw() for _ in range(300)]
        await asyncio.gather(*(s.hello(type_url=EDS, resource_names=[ORDERS]) for s in streams))
        answers = await asyncio.gather(*(s.read(20) for s in streams))
        assert all(assignments(a) == {ORDERS: [1, 2]} for a in answers)


def waits(plane, kind, type_name="EDS"):
    """How many changes were accepted, and after how many seconds in all."""
    for metric, values in plane.counters.histograms():
        if metric.name == metrics.EVENT_ACK_SECONDS and (type_name, kind) in values:
            histogram = values[type_name, kind]
            return sum(histogram.counts), histogram.total
    return 0, 0.0


async def test_the_way_from_a_change_to_its_acceptance_counts_from_the_changes_own_time(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.sotw()
        await stream.hello(type_url=EDS, resource_names=[ORDERS])
        await stream.ack(await stream.read(), resource_names=[ORDERS])
        happened = asyncio.get_running_loop().time() - 40.0
        source.put(Updated(updated("orders", 2).snapshot, since=happened))
        changed = await stream.read()
        # A client's first state is no change that it waited for.
        assert waits(plane, "envoy") == (0, 0.0)
        await stream.ack(changed, resource_names=[ORDERS])
        await eventually(lambda: waits(plane, "envoy")[0] == 1)
        assert 40.0 <= waits(plane, "envoy")[1] < 50.0


async def test_a_change_without_a_time_of_its_own_counts_from_when_it_was_read(source):
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.delta(agent="gRPC C-core")
        await stream.hello(type_url=EDS, resource_names_subscribe=[ORDERS])
        await stream.ack(await stream.read())
        source.put(updated("orders", 2))
        await stream.ack(await stream.read())
        await eventually(lambda: waits(plane, "grpc")[0] == 1)
        assert waits(plane, "grpc")[1] < 5.0


async def test_a_rejected_change_is_not_counted_as_accepted(source, caplog):
    caplog.set_level(logging.ERROR)
    async with running(source) as plane, RawClient(plane.xds_address) as client:
        stream = client.delta()
        await stream.hello(type_url=EDS, resource_names_subscribe=[ORDERS])
        await stream.ack(await stream.read())
        source.put(updated("orders", 2))
        response = await stream.read()
        await stream.ack(response, error_detail={"code": 3, "message": "no"})
        await eventually(lambda: plane.counters.get(metrics.NACKS, "EDS", "envoy") == 1)
        assert waits(plane, "envoy") == (0, 0.0)


async def test_what_a_client_brings_along_and_nobody_knows_is_said_to_be_gone_after_a_while():
    source = QueueSource(updated("orders", 1), Synced())
    async with (
        running(source, doubt_s=0.5) as plane,
        RawClient(plane.xds_address) as client,
    ):
        await plane.store.synced.wait()
        stream = client.delta()
        had = {"late.shop:8080": "1"}
        await stream.hello(type_url=type_urls.CDS, initial_resource_versions=had)
        first = await stream.read()
        assert ([r.name for r in first.resources], list(first.removed_resources)) == (
            ["orders.shop:8080"],
            [],
        )
        assert list((await stream.read()).removed_resources) == ["late.shop:8080"]
