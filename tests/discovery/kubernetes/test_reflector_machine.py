"""Whatever happens, in whatever order: in the end the view is the server's state.

The production source against a fake API server on real sockets. Changes, gaps, compaction, cut and
ended watches, duplicates, dropped events with repair, and failed requests come in any order.
"""

import asyncio
import itertools
import json

from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fake_api import FakeApi, View
from fake_api.view import until
from kube import Folded, endpoint_slice, service
from machine_settings import machine_settings

SERVICES = st.sampled_from(["orders", "users"])
SLICES = st.sampled_from("abcd")
ADDRESSES = st.lists(st.integers(1, 9), max_size=4, unique=True)
KEEPER = "keeper.shop:8080"


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.api = FakeApi()
        self.run(self.api.start())
        self.api.put(service("keeper"), endpoint_slice("kept", "10.9.9.9", of="keeper"))
        self.view = View(self.api, timing={"check_s": 0.05})
        self.task = self.runner.get_loop().create_task(self.view.read())
        self.run(until(lambda: self.view.synced or self.task.done(), "the first sync"))
        self.up = True

    def run(self, coroutine):
        return self.runner.run(coroutine)

    def turn(self):
        """Let some of it happen, so that faults meet every stage."""

        async def some():
            loop = asyncio.get_running_loop()
            for _ in range(3):
                turned = loop.create_future()
                loop.call_soon(turned.set_result, None)
                await turned

        self.run(some())

    @rule(name=SERVICES, port=st.sampled_from([8080, 9090]))
    def put_service(self, name, port):
        self.api.put(service(name, ports=(("grpc", port),)))
        self.turn()

    @rule(name=SERVICES)
    def delete_service(self, name):
        if ("shop", name) in self.api.objects.at("services"):
            self.api.delete(service(name))
        self.turn()

    @rule(name=SLICES, of=SERVICES, numbers=ADDRESSES, unready=st.booleans())
    def put_slice(self, name, of, numbers, unready):
        made = endpoint_slice(name, *(f"10.0.0.{n}" for n in numbers), of=of)
        if unready and made["endpoints"]:
            made["endpoints"][0]["conditions"] = {"ready": False}
        self.api.put(made)
        self.turn()

    @rule(name=SLICES)
    def delete_slice(self, name):
        if ("shop", name) in self.api.objects.at("endpointslices"):
            self.api.delete(endpoint_slice(name))
        self.turn()

    @rule()
    def compact(self):
        self.api.objects.compact()

    @rule(inside=st.booleans(), silent=st.booleans())
    def choose_how_gone_is_told(self, inside, silent):
        self.api.gone_inside, self.api.silent_gone = inside, silent

    @rule()
    def cut(self):
        self.api.cut_watches()
        self.turn()

    @rule()
    def end(self):
        self.api.end_watches()
        self.turn()

    @rule()
    def bookmark(self):
        self.api.bookmark()
        self.turn()

    @rule(times=st.integers(1, 2))
    def lose_events(self, times):
        self.api.drop_next += times

    @rule(back=st.integers(0, 5), times=st.integers(1, 3))
    def repeat_an_event(self, back, times):
        entries = [e for e in self.api.objects.log if e[1] == "endpointslices"]
        _, plural, kind, document = entries[-1 - min(back, len(entries) - 1)]
        line = json.dumps({"type": kind, "object": document}).encode() + b"\n"
        self.api.say(line * times, plural)
        self.turn()

    @rule(verb=st.sampled_from(["list", "watch"]), status=st.sampled_from([410, 429, 500, 503]))
    def refuse(self, verb, status):
        self.api.fail(verb, status=status, headers={"Retry-After": "0.01"})

    @rule(text=st.sampled_from([b"{]\n", b'{"type":', b"\xff\n", b"\n\n"]))
    def garble(self, text):
        self.api.say(text)
        self.turn()

    @precondition(lambda self: self.up)
    @rule()
    def go_down(self):
        self.run(self.api.stop())
        self.up = False

    @precondition(lambda self: not self.up)
    @rule()
    def come_up(self):
        self.run(self.api.start())
        self.up = True

    @rule()
    def settle(self):
        """When the dust settles, what is known is what there is."""
        if not self.up:
            self.come_up()
        self.api.drop_next = 0
        self.api._faults.clear()
        wanted = Folded(*self.api.objects.at("services").values())
        wanted.add(*self.api.objects.at("endpointslices").values())

        looks = itertools.count()

        def same():
            assert not self.task.done(), self.task.exception()
            if next(looks) % 50 == 49:
                # Only what is past can be compared: a server says now and then how far it is.
                self.api.bookmark()
            return self.view.clusters == wanted.clusters

        def differences():
            return f"view {self.view.clusters}, server {wanted.clusters}"

        self.run(until(same, differences))

    @invariant()
    def what_never_changed_was_never_gone(self):
        assert self.view.addresses(KEEPER) == ["10.9.9.9"]
        for event in self.view.told:
            snapshot = getattr(event, "snapshot", None)
            if snapshot is not None and snapshot.cluster == KEEPER:
                assert len(snapshot.endpoints) == 1
            assert getattr(event, "cluster", "") != KEEPER

    def teardown(self):
        try:
            self.settle()
        finally:

            async def end():
                self.task.cancel()
                await asyncio.gather(self.task, return_exceptions=True)
                if self.up:
                    await self.api.stop()

            self.run(end())
            self.runner.close()


Machine.TestCase.settings = machine_settings(150, suppress_health_check=[HealthCheck.too_slow])
TestReflector = Machine.TestCase
