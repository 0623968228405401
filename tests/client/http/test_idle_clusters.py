"""Services that are no longer called are followed no more, where that was asked for."""

import asyncio
import threading

import pytest

from harness.waiting import eventually
from http_doors import DOORS, Aiohttp, Httpx2Async, HttpxAsync, HttpxSync
from trimtab.attempt import Retry
from trimtab.client.http_cluster import _LOOK_S, LetGo
from trimtab.client.http_clusters import HttpClusters
from trimtab.client.http_waiting import pick_blocking
from trimtab.errors import ConfigError
from trimtab.model import Endpoint, PolicyConfig, Snapshot
from trimtab.policies import Outcome
from trimtab.testing import ControlPlane
from trimtab.xds import type_urls

IDLE_S = 600.0


@pytest.fixture
def clusters():
    made = []

    def make(**options):
        with ControlPlane() as plane:
            bootstrap = plane.bootstrap()
        others = dict.fromkeys(
            (
                "policy",
                "endpoints",
                "locality",
                "labels",
                "fallback",
                "retry",
                "retries",
                "hash_key",
            )
        )
        arguments = {**others, "bootstrap": bootstrap, "idle_s": IDLE_S, **options}
        made.append(HttpClusters(lambda _node: object(), ["*.shop"], **arguments))
        return made[-1]

    yield make
    for each in made:
        for cluster in each:
            cluster.close()


def told(clusters, name):
    cluster = clusters.of("http", name, 80)
    cluster.updated(Snapshot(f"{name}:80", (Endpoint("10.0.0.1", 80),)))
    return cluster


def later(cluster, seconds):
    then = cluster.clock() + seconds
    cluster.clock = lambda: then


def noticed(cluster):
    """It is looked whether it was called, as is done beside the requests."""
    later(cluster, _LOOK_S)
    cluster.beat()


SOON = {"within": 15, "what": "the control plane is asked for no more and no less"}


def subscribed(plane):
    return {
        resource.name
        for client in plane.clients()
        for resource in client.resources
        if resource.type_url == type_urls.EDS
    }


def followed(clusters):
    return [cluster.service.partition(".")[0] for cluster in clusters]


def test_who_was_not_called_for_long_is_let_go_when_another_is_called_first(clusters):
    them = clusters()
    old = told(them, "old.shop")
    pick_blocking(old, None, 0.0).finish(Outcome.SUCCESS)
    noticed(old)
    later(old, IDLE_S)
    told(them, "new.shop")
    assert followed(them) == ["new"]
    assert them.of("http", "old.shop", 80) is not old  # it is asked for anew
    assert followed(them) == ["new", "old"]


def test_who_was_called_meanwhile_stays(clusters):
    them = clusters()
    old = told(them, "old.shop")
    noticed(old)
    later(old, IDLE_S - 1)
    pick_blocking(old, None, 0.0).finish(Outcome.SUCCESS)
    noticed(old)
    later(old, IDLE_S - 1)
    told(them, "new.shop")
    assert followed(them) == ["old", "new"]


def test_whose_request_is_under_way_stays_and_is_found_again(clusters):
    them = clusters()
    old = told(them, "old.shop")
    pick_blocking(old, None, 0.0)
    noticed(old)
    later(old, IDLE_S)
    told(them, "new.shop")
    assert them.of("http", "old.shop", 80) is old


def test_who_is_waited_for_or_unheard_of_stays(clusters):
    them = clusters()
    old = told(them, "old.shop")
    assert old.add_waiter(threading.Event().set)
    unheard = them.of("http", "unheard.shop", 80)
    for each in (old, unheard):
        later(each, IDLE_S)
    told(them, "new.shop")
    assert followed(them) == ["old", "unheard", "new"]


def test_who_waits_too_late_is_told_at_once(clusters):
    them = clusters()
    old = told(them, "old.shop")
    later(old, IDLE_S)
    told(them, "new.shop")
    assert not old.add_waiter(threading.Event().set)


def test_who_had_found_it_and_asks_too_late_is_sent_to_look_again_and_holds_nothing(clusters):
    them = clusters()
    old = told(them, "old.shop")
    later(old, IDLE_S)
    told(them, "new.shop")
    with pytest.raises(LetGo):
        old.pick()
    with pytest.raises(LetGo):
        pick_blocking(old, None, 0.0)
    (node,) = old.balancer.nodes.values()
    assert (node.in_flight, node.transport) == (0, None)


def test_fixed_lists_and_all_where_nothing_was_asked_for_stay(clusters):
    for options in ({"idle_s": None}, {"endpoints": {"old.shop:80": ["10.0.0.1:80"]}}):
        them = clusters(**options)
        old = them.of("http", "old.shop", 80)
        old.updated(Snapshot("old.shop:80", (Endpoint("10.0.0.1", 80),)))
        later(old, IDLE_S)
        told(them, "new.shop")
        assert followed(them) == ["old", "new"]


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), "1800", True])
def test_what_is_no_time_is_refused(clusters, wrong):
    with pytest.raises(ConfigError, match="idle_s="):
        clusters(idle_s=wrong)


@pytest.mark.parametrize("kind", [HttpxAsync, HttpxSync, Httpx2Async, Aiohttp])
async def test_it_is_asked_for_no_more_its_connections_close_and_it_comes_back(kind, servers):
    a, b = servers.open("a", "b")
    with ControlPlane() as plane:
        plane.set("old.shop:80", [a.target])
        plane.set("new.shop:80", [b.target])
        client = kind(hosts=["*.shop"], bootstrap=plane.bootstrap(), idle_s=IDLE_S)

        async def asked(name):
            return (await client.send("GET", f"http://{name}.shop/")).seen["server"]

        assert await asked("old") == "a"
        (old,) = client.transport._clusters
        (node,) = old.balancer.nodes.values()
        noticed(old)
        later(old, IDLE_S)
        assert await asked("new") == "b"
        assert followed(client.transport._clusters) == ["new"]
        if (
            kind is not Aiohttp
        ):  # whose connections are the session's, which lets them go after 15 s
            assert not node.transport._pool.connections
        await asyncio.to_thread(eventually, lambda: subscribed(plane) == {"new.shop:80"}, **SOON)
        plane.stop()
        assert await asked("old") == "a"  # by what was known last
        assert followed(client.transport._clusters) == ["new", "old"]
        plane.start()
        both = {"new.shop:80", "old.shop:80"}
        await asyncio.to_thread(eventually, lambda: subscribed(plane) == both, **SOON)
        await client.close()


@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize("hedged", [False, True], ids=["plain", "hedged"])
async def test_a_request_in_whose_middle_it_is_let_go_finds_it_anew(kind, hedged, servers):
    a, b = servers.open("a", "b")
    with ControlPlane() as plane:
        plane.set("old.shop:80", [a.target])
        plane.set("new.shop:80", [b.target])

        def key(_method, headers, _request):
            """Asked after the request has found its service, and before it has its endpoint."""
            (old, *others) = transport._clusters
            if dict(headers).get("x-late") and not others:
                later(old, IDLE_S)
                transport._clusters.of("http", "new.shop", 80)
            return "key"

        client = kind(
            hosts=["*.shop"],
            bootstrap=plane.bootstrap(),
            idle_s=IDLE_S,
            policy=PolicyConfig.of("ring_hash"),
            hash_key=key,
            retry=Retry(hedge_after_s=30.0) if hedged else None,
        )
        transport = client.transport
        await client.send("GET", "http://old.shop/")
        (old,) = transport._clusters
        noticed(old)
        answer = await client.send("GET", "http://old.shop/", headers={"x-late": "1"})
        assert answer.seen["server"] == "a"
        assert followed(transport._clusters) == ["new", "old"]
        assert old not in list(transport._clusters)
        assert old.balancer.in_flight == 0
        await client.close()
