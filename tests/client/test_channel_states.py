"""``trimtab.debug``: what a process's channels do, over every door."""

import re

import grpc
import pytest

import trimtab
from debug_rows import rows
from doors import loop, threads
from harness.waiting import Unmet, eventually
from trimtab.model import PolicyConfig

DOORS = {**threads.DOORS, **loop.DOORS}
# Its tokens are good for a second by default: a busy machine may take longer to look at one.
TOKEN = PolicyConfig.of("token", age_s=3600.0)

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


def test_each_endpoint_has_a_line_with_what_it_did(door, servers, echo):
    live = servers.open("a")
    channel = door.open([live.target, "127.0.0.1:1"], policy="round_robin")
    for _ in range(3):
        channel.say(echo[0].Request(), timeout=10)
    found = rows()
    assert found[live.target][2:6] == ["ready", "0", "3", "0"]
    assert found["127.0.0.1:1"][2:6] == ["connecting", "0", "0", "0"]
    assert found[live.target][-1] == "-"  # round robin compares nothing
    assert "ejections" not in trimtab.debug()
    assert "round_robin, zone unknown, list changed" in trimtab.debug()
    channel.close()
    assert "orders.shop:80: " not in trimtab.debug()


def test_an_ejected_endpoint_is_shown_as_such(door, servers, echo):
    bad, good = servers.open("a", "b")
    channel = door.open([bad.target, good.target], policy="round_robin")

    def ejected():
        for _ in range(2):
            channel.begin("Say", echo[0].Request(), timeout=10).code()
        return rows()[bad.target][2] == "ejected"

    bad._answer = lambda _request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "no")
    eventually(ejected, within=20, what="it is ejected")
    assert rows()[good.target][2] == "ready"
    assert "  ejections: 1\n" in trimtab.debug()


@pytest.mark.parametrize(
    ("policy", "cost"),
    [("p2c", r"1\.00"), ("p2c_ewma", r"\d+\.\d ms"), (TOKEN, r"0 at \d+\.\d ms")],
    ids=["p2c", "p2c_ewma", "token"],
)
@pytest.mark.parametrize("locality", [None, "z1"])
def test_the_policy_s_cost_of_an_endpoint_is_shown(door, servers, echo, policy, cost, locality):
    server = servers.open("a")
    endpoint = trimtab.Endpoint("127.0.0.1", server.port, locality=trimtab.Locality(zone="z1"))
    channel = door.open([endpoint], policy=policy, locality=locality)

    def shown():  # an answer leaves a token where its endpoint has credit, which begins at random
        channel.say(echo[0].Request(), timeout=10, wait_for_ready=True)
        seen = " ".join(rows()[server.target][8:])
        return re.fullmatch(rf"1\.00 {cost}", seen) or Unmet(seen)

    eventually(shown, within=20, what="its cost is shown")


def test_the_policy_s_tokens_and_the_zones_split_are_shown(door, servers, echo):
    here, there = servers.open("a", "b")
    endpoints = [
        trimtab.Endpoint("127.0.0.1", here.port, locality=trimtab.Locality(zone="z1")),
        trimtab.Endpoint("127.0.0.1", there.port, locality=trimtab.Locality(zone="z2")),
    ]
    channel = door.open(endpoints, policy=TOKEN, locality="z1")
    eventually(
        lambda: sum(n.connected for n in channel.balancer.nodes.values()) == 2,
        within=10,
        what="both are connected",
    )
    for _ in range(40):
        channel.say(echo[0].Request(), timeout=10)
    (line,) = [each for each in trimtab.debug().splitlines() if each.startswith("  policy: ")]
    assert "% in the own zone, " in line
    assert "z1: tokens held: 1" in line
    sent = {node.endpoint.locality.zone: node.picks for node in channel.balancer.nodes.values()}
    zones = f"z1 {sent['z1']}, z2 {sent['z2']}; {sent['z2'] / 40:.1%} left the own zone"
    assert f"  requests by zone: {zones}" in trimtab.debug()
