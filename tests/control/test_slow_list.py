"""An API server that takes more than a minute to answer the first list: unknown is not empty."""

import asyncio
import contextlib

import pytest

from fake_api import Access, FakeApi
from fake_api.view import until
from kube import endpoint_slice, service
from plane import RawClient, assignments, eventually, get, running
from trimtab.control import metrics
from trimtab.discovery.kubernetes import metrics as kube_metrics
from trimtab.discovery.kubernetes.source import Kubernetes
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.telemetry import Counters
from trimtab.xds.type_urls import CDS, EDS

ORDERS = "orders.shop:8080"
STEP_S, WAITED_S = 5, 90


@pytest.fixture
async def later(monkeypatch):
    """Let so many seconds pass on the loop's clock, which every part of the control plane reads."""
    loop = asyncio.get_running_loop()
    real, passed = loop.time, 0.0

    def by(seconds):
        nonlocal passed
        passed += seconds

    monkeypatch.setattr(loop, "time", lambda: real() + passed)
    return by


class HeldLists:
    """An API server that answers a kind's lists once it may, from one page on."""

    def __init__(self, api, plural, page):
        self._api, self._plural, self._page = api, plural, page
        self.open = asyncio.Event()
        self.waiting = 0
        api.fail("list", 1000, plural=plural, act=self._answer)

    async def _answer(self, request):
        if self._page == "first" or "continue" in request.query:
            self.waiting += 1
            await self.open.wait()
        return self._api._list(request, self._plural)


@contextlib.asynccontextmanager
async def asking(plane):
    """Streams of both transports that ask for clusters and endpoints, and what each reads."""
    async with RawClient(plane.xds_address) as client:
        reading = []
        for type_url, names in ((CDS, []), (EDS, [ORDERS])):
            sotw, delta = client.sotw(), client.delta()
            await sotw.hello(type_url=type_url, resource_names=names)
            await delta.hello(type_url=type_url, resource_names_subscribe=names)
            reading += [asyncio.ensure_future(stream.call.read()) for stream in (sotw, delta)]
        await eventually(lambda: plane.counters.get(metrics.REQUESTS) == len(reading))
        yield reading


@pytest.mark.parametrize("page", ["first", "second"])
@pytest.mark.parametrize("plural", ["services", "endpointslices"])
async def test_for_a_minute_and_a_half_nobody_is_answered_and_it_is_not_ready_and_then_all_is_told(
    plural, page, later
):
    api = FakeApi()
    api.put(service(), service("users"))
    api.put(endpoint_slice("a", "10.0.0.1"), endpoint_slice("b", "10.0.0.2", ports=(("grpc", 2),)))
    lists = HeldLists(api, plural, page)
    await api.start()
    counters, problems = Counters(kube_metrics.METRICS), []
    timing = Timing(page_size=1)
    source = Kubernetes(
        Access(api), problems.append, counters=counters, label="fake", timing=timing
    )
    try:
        async with running(source) as plane, asking(plane) as reading:
            await until(lambda: lists.waiting)
            for _ in range(0, WAITED_S, STEP_S):
                later(STEP_S)
                assert (await get(plane.admin_address, "/readyz"))[0] == 503
                assert not any(r.done() for r in reading)
            # The first request was given up meanwhile, and the list is asked for anew.
            assert counters.get(kube_metrics.FAILURES, "fake", "timeout") >= 1
            lists.open.set()
            clusters_sotw, clusters_delta, *endpoints = await asyncio.wait_for(
                asyncio.gather(*reading), 5
            )
            assert len(clusters_sotw.resources) == 2
            assert len(clusters_delta.resources) == 2
            assert [assignments(answer) for answer in endpoints] == [{ORDERS: [2, 50051]}] * 2
            assert (await get(plane.admin_address, "/readyz"))[0] == 200
            assert not problems
    finally:
        lists.open.set()
        await api.stop()
