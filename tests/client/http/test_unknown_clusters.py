"""Of names that nobody knows so many are followed, and no request is lost to that."""

import asyncio
import contextlib
import socket
import threading

import pytest

from trimtab.client.http_cluster import Unknown
from trimtab.client.http_clusters import _MOST_UNKNOWN, HttpClusters
from trimtab.client.http_waiting import pick_blocking, pick_soon
from trimtab.model import Endpoint, Snapshot
from trimtab.testing import ControlPlane

FIRST = "first.shop"


@pytest.fixture
def clusters():
    """Of a control plane that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        plane = ControlPlane(port=silent.getsockname()[1])
        found = HttpClusters(
            lambda _node: object(),
            ["*.shop"],
            policy=None,
            endpoints=None,
            bootstrap=plane.bootstrap(),
            locality=None,
            labels=None,
            fallback=None,
            retry=None,
            retries=None,
            hash_key=None,
        )
        yield found
        for cluster in found:
            cluster.close()


def ask(clusters, name):
    return clusters.of("http", name, 8080)


def give_up(cluster):
    with contextlib.suppress(Unknown):
        pick_blocking(cluster, None, 0.0)


def ask_many(clusters, count=_MOST_UNKNOWN + 5):
    """By others, who wait for nothing."""
    for number in range(count):
        give_up(ask(clusters, f"other-{number}.shop"))


def test_a_cluster_that_was_just_found_is_not_forgotten_before_its_request_waits(clusters):
    first = ask(clusters, FIRST)
    ask_many(clusters)
    assert ask(clusters, FIRST) is first
    first.updated(Snapshot("first.shop:8080", (Endpoint("10.0.0.1", 80),)))
    assert pick_blocking(first, None, 0.0).node.endpoint.address == "10.0.0.1"


def test_no_more_are_followed_than_the_limit_however_many_are_asked_for(clusters):
    ask_many(clusters, 2 * _MOST_UNKNOWN)
    assert len(list(clusters)) == _MOST_UNKNOWN


def test_who_never_waits_is_forgotten_in_time(clusters):
    first = ask(clusters, FIRST)
    later = first.clock() + 10.0
    first.clock = lambda: later
    ask_many(clusters)
    assert first not in set(clusters)


def forgotten(clusters):
    """A cluster that a request has found, and that others have displaced since."""
    give_up(ask(clusters, FIRST))
    found = ask(clusters, FIRST)
    ask_many(clusters)
    assert found not in set(clusters)
    return found


def test_a_thread_that_comes_too_late_is_told_at_once_and_the_next_finds_it_anew(clusters):
    found = forgotten(clusters)
    told = threading.Event()

    def wait():
        with pytest.raises(Unknown, match=r"first\.shop"):
            pick_blocking(found, None, None)
        told.set()

    threading.Thread(target=wait, daemon=True).start()
    assert told.wait(5)
    assert ask(clusters, FIRST) is not found


async def test_a_task_that_comes_too_late_is_told_at_once(clusters):
    found = forgotten(clusters)
    async with asyncio.timeout(5):
        with pytest.raises(Unknown, match=r"first\.shop"):
            await pick_soon(found, None, None)


def test_a_cluster_that_is_waited_for_is_kept(clusters):
    found = ask(clusters, FIRST)
    told = threading.Event()
    assert found.add_waiter(told.set)
    ask_many(clusters)
    assert ask(clusters, FIRST) is found
    assert not found.forget()


def test_a_loop_that_was_closed_while_a_task_waited_keeps_nobody_else_waiting(clusters):
    found = ask(clusters, FIRST)
    loop = asyncio.new_event_loop()
    task = loop.create_task(pick_soon(found, None, None))
    loop.run_until_complete(asyncio.sleep(0))  # noqa: TID251 - a turn, in which it begins to wait
    loop.close()
    told = threading.Event()
    found.add_waiter(told.set)
    found.failed("nobody is there")
    assert told.is_set()
    task._log_destroy_pending = False  # as it is meant to be
    task.get_coro().close()
