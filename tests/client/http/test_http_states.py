"""``trimtab.debug``: what a process's HTTP clients do, cluster by cluster, over every door."""

import asyncio
import gc

import trimtab
from debug_rows import rows
from harness.waiting import Deadline, pause

ORDERS, USERS = "orders.shop:8080", "users.shop:80"


async def test_each_cluster_that_was_called_is_shown_with_what_its_endpoints_did(door, servers):
    a, b, c = servers.open("a", "b", "c")
    endpoints = {ORDERS: [a.target, b.target], USERS: [c.target], "never.shop:80": [c.target]}
    client = door(endpoints=endpoints, policy="round_robin", timeout=30)
    assert not shown(ORDERS)
    for _ in range(4):
        await client.send("GET", f"http://{ORDERS}/")
    await client.send("GET", "http://users.shop/")
    orders = rows(ORDERS)
    assert {target: words[2:6] for target, words in orders.items()} == {
        each.target: ["ready", "0", "2", "0"] for each in (a, b)
    }
    assert rows(USERS)[c.target][2:6] == ["ready", "0", "1", "0"]
    assert f"{ORDERS}: round_robin, zone unknown, list changed" in trimtab.debug()
    assert not shown("never.shop:80")


async def test_what_is_in_flight_is_shown_until_it_ends_and_nothing_of_a_closed_client(
    door, servers
):
    a = servers.open("a")
    client = door(endpoints={ORDERS: [a.target]}, timeout=30)
    under_way = asyncio.create_task(client.send("GET", f"http://{ORDERS}/hold"))
    deadline = Deadline(20)
    while not a.holding:
        assert not deadline.passed
        await asyncio.to_thread(pause)
    assert rows(ORDERS)[a.target][3] == "1"
    a.let_go.set()
    await under_way
    assert rows(ORDERS)[a.target][3] == "0"
    await client.close()
    assert not shown(ORDERS)


def shown(service):
    gc.collect()  # clients of other tests that were dropped
    return f"{service}: " in trimtab.debug()
