"""A process that has as many threads as it may, for a moment: what needs one tries again with the next request."""

import threading

import pytest

from harness.waiting import eventually
from http_doors import HttpxSync
from trimtab.client import http_cluster
from trimtab.client.http_liveness import Liveness
from trimtab.testing import ControlPlane

URL = "http://orders.shop:8080/"


@pytest.fixture
def refused(monkeypatch):
    """Names of threads that can't start."""
    names, start = set(), threading.Thread.start

    def some_start(thread):
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", some_start)
    return names


async def test_a_service_is_followed_as_soon_as_the_thread_can_start(refused, servers):
    with ControlPlane() as plane:
        plane.set("orders.shop:8080", [servers.open("a").target])
        client = HttpxSync(hosts=["*.shop"], bootstrap=plane.bootstrap())
        refused.add("trimtab-xds")
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await client.send("GET", URL)
        refused.clear()
        assert (await client.send("GET", URL)).seen["server"] == "a"
        await client.close()


async def test_who_rests_is_asked_as_soon_as_the_thread_can_start(refused, servers, monkeypatch):
    monkeypatch.setattr(http_cluster, "LIVENESS", Liveness())  # whose thread has yet to begin
    a = servers.open("a")
    client = HttpxSync(endpoints={"orders.shop:8080": [a.target]})
    refused.add("trimtab-http")
    assert (await client.send("GET", URL)).seen["server"] == "a"
    (cluster,) = client.transport._clusters
    (node,) = cluster.balancer.nodes.values()
    refused.clear()
    cluster.rest(node)
    eventually(lambda: node.connected, within=30, what="it is found to take connections")
    await client.close()
