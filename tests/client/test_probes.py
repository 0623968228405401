"""``prequal`` asks real servers, in processes of their own, for their load."""

import sys
import threading
from pathlib import Path

import grpc
import pytest

import trimtab
import trimtab.aio
from harness.echo_process import METHOD, SERVICE
from harness.talk import Talk
from trimtab.balancer import Node
from trimtab.client.availability import Link
from trimtab.client.probing import MOST, Probing
from trimtab.load_codec import PROBE, decode_answer
from trimtab.model import Endpoint

SUPPORT = Path(__file__).parent.parent / "support"
QUICK_MS, SLOW_MS = 4, 40
REQUESTS = 160


class Fleet:
    """Three quick servers and a slow one, each a process."""

    def __init__(self, kind, reports):
        self.answers_probes = reports == "reports"
        program = [sys.executable, "-m", "harness.reporting_process", kind]
        self._talks = [
            Talk(f"server {i}", [*program, str(ms), reports], cwd=SUPPORT)
            for i, ms in enumerate([SLOW_MS, *[QUICK_MS] * 3])
        ]
        self.targets = [f"127.0.0.1:{talk.answer()['port']}" for talk in self._talks]

    def counts(self):
        """Of each server, the slow one first: requests and probes."""
        found = []
        for talk in self._talks:
            talk.say(do="count")
            answer = talk.answer()
            found.append((answer["requests"], answer["probes"]))
        return found

    def stop(self):
        for talk in self._talks:
            talk.stop()


@pytest.fixture(
    scope="module",
    params=[("threads", "reports"), ("loop", "reports"), ("threads", "plain"), ("loop", "plain")],
    ids="-".join,
)
def fleet(request):
    made = Fleet(*request.param)
    yield made
    made.stop()


def by_threads(targets):
    with trimtab.insecure_channel("orders", endpoints=targets, policy="prequal") as channel:
        call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        for _ in range(REQUESTS):
            call(b"", timeout=5, wait_for_ready=True)
        assert channel.trimtab.in_flight == 0


async def by_loop(targets):
    async with trimtab.aio.insecure_channel(
        "orders", endpoints=targets, policy="prequal"
    ) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        for _ in range(REQUESTS):
            await call(b"", timeout=5, wait_for_ready=True)
        assert channel.trimtab.in_flight == 0


async def use(door, targets):
    if door == "threads":
        by_threads(targets)
    else:
        await by_loop(targets)


@pytest.mark.processes
@pytest.mark.parametrize("door", ["threads", "loop"])
async def test_a_slow_server_is_avoided_by_what_probes_say_and_others_are_used_without(fleet, door):
    before = fleet.counts()
    await use(door, fleet.targets)
    after = fleet.counts()
    requests, probes = (
        [new[i] - old[i] for old, new in zip(before, after, strict=True)] for i in (0, 1)
    )
    assert sum(requests) == REQUESTS
    # One request at a time: by its own in-flight, the client would send the slow one a quarter, give or
    # take 6. On a busy machine some probes are late, and the endpoint is left in peace for a second.
    if fleet.answers_probes:
        assert requests[0] < REQUESTS / 6
        assert all(REQUESTS / 40 < n < REQUESTS for n in probes)
        assert sum(probes) <= 3 * REQUESTS
    else:
        assert all(n > REQUESTS / 10 for n in requests)
        assert all(n <= 2 for n in probes)  # left in peace


@pytest.mark.processes
def test_a_policy_that_wants_no_probes_sends_none_and_starts_no_thread(fleet):
    before = fleet.counts()
    with trimtab.insecure_channel("orders", endpoints=fleet.targets) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        for _ in range(20):
            call(b"", timeout=5, wait_for_ready=True)
        assert "trimtab-probes" not in {thread.name for thread in threading.enumerate()}
    assert [probes for _, probes in fleet.counts()] == [probes for _, probes in before]


@pytest.mark.processes
def test_a_report_can_be_asked_for_by_any_client(fleet):
    with grpc.insecure_channel(fleet.targets[1]) as channel:
        probe = channel.unary_unary(PROBE)
        if fleet.answers_probes:
            assert decode_answer(probe(b"", timeout=5)).in_flight == 0
        else:
            with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                probe(b"", timeout=5)


def nodes(n):
    made = [Node(Endpoint("10.0.0.1", 1 + i)) for i in range(n)]
    for node in made:
        node.connected = node.usable = True
        node.transport = Link()
    return made


def test_few_probes_are_under_way_and_one_per_endpoint():
    probing, many = Probing(), nodes(2 * MOST)
    first = probing.admit([many[0], *many], 0.0)
    assert first == many[:MOST]
    assert probing.admit(many, 0.0) == []
    probing.answered(many[3])
    assert probing.admit([many[3], many[3], many[5]], 0.0) == [many[3]]


def test_who_is_not_connected_or_leaves_is_not_asked():
    away, leaving, new, well = nodes(4)
    away.connected = False
    leaving.transport.leaving = True
    new.transport = None
    assert Probing().admit([away, leaving, new, well], 0.0) == [well]


def test_who_does_not_answer_is_left_in_peace_for_ever_longer():
    probing, (node,) = Probing(), nodes(1)
    for at, pause in ((0.0, 1.0), (10.0, 2.0), (20.0, 4.0)):
        assert probing.admit([node], at) == [node]
        probing.failed(node, at)
        assert probing.admit([node], at + pause - 0.1) == []
    assert probing.admit([node], 30.0) == [node]
    probing.answered(node)
    assert probing.admit([node], 30.0) == [node]
    probing.failed(node, 30.0, for_good=True)
    assert probing.admit([node], 89.0) == []
    assert probing.admit([node], 91.0) == [node]


@pytest.mark.parametrize("message", [b"", b"\xff\xff", b"\x0a\x04TEXT", b"\x0a\x03abc"])
def test_an_answer_that_is_no_report_says_nothing(message):
    assert decode_answer(message) is None
