"""The out-of-band service, asked by ORCA's own stubs' messages."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest

from harness.waiting import Deadline
from trimtab.server import ServerLoad, add_load_report_service


@pytest.fixture
def load():
    return ServerLoad(utilization=lambda: 0.25)


@pytest.fixture(params=["threads", "loop"])
async def subscribe(request, load):
    threads = request.param == "threads"
    server = grpc.server(ThreadPoolExecutor(4)) if threads else grpc.aio.server()
    add_load_report_service(server, load, least_interval_s=0.1)
    port = server.add_insecure_port("127.0.0.1:0")
    started = server.start()
    if started is not None:
        await started
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_stream(
            "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics",
            request_serializer=OrcaLoadReportRequest.SerializeToString,
            response_deserializer=OrcaLoadReport.FromString,
        )
    stopped = server.stop(None)
    if threads:
        stopped.wait(10)
    else:
        await stopped


def asking(seconds):
    request = OrcaLoadReportRequest(request_cost_names=["tokens"])
    request.report_interval.FromNanoseconds(int(seconds * 1e9))
    return request


async def test_a_report_comes_at_once_and_then_one_per_interval(subscribe):
    call = subscribe(asking(0.3), timeout=10)
    clock = Deadline(10)
    for _ in range(3):
        assert (await call.read()).application_utilization == 0.25
    assert 0.5 < clock.elapsed < 5
    call.cancel()


async def test_who_asks_for_too_much_gets_the_least_interval(subscribe):
    call = subscribe(asking(0.000001), timeout=10)
    clock = Deadline(10)
    for _ in range(4):
        await call.read()
    assert clock.elapsed > 0.25
    call.cancel()


async def test_rates_are_those_of_the_interval_though_responses_report_none(subscribe, load):
    call = subscribe(asking(0.3), timeout=10)
    clock = Deadline(10)
    await call.read()
    for n in range(30):
        load.end(load.begin(), 0.01, failed=n < 10)
    rates, errors = [], []
    # Until one without: where the machine stands still an interval may end before them, or among them.
    while not any(rates) or rates[-1]:
        took = clock.elapsed
        report = await call.read()
        rates.append(report.rps_fractional)
        errors.append(report.eps)
    # 30 requests in intervals of at least 0.3 s, and none longer than all of it took.
    assert 30 / took <= sum(rates) <= 100.1
    assert sum(errors) == pytest.approx(sum(rates) / 3)
    call.cancel()
