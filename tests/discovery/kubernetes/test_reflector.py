"""The order of things inside a reflector that no server can bring about at will."""

import asyncio
import contextlib
import json
from random import Random

from fake_api.view import FAST
from kube import endpoint_slice
from trimtab.discovery.kubernetes.api import Target
from trimtab.discovery.kubernetes.metrics import METRICS
from trimtab.discovery.kubernetes.reflector import Reflector
from trimtab.discovery.kubernetes.wire import SLICES, Page
from trimtab.telemetry import Counters


class WishedAnew:
    """Stands for an API server: a new list is wished just when an event has arrived."""

    def __init__(self):
        self.lists = 0
        self.reflector = None

    async def pages(self, _target):
        self.lists += 1
        yield Page("100", "")

    @contextlib.asynccontextmanager
    async def watch(self, _target, _version, _seconds):
        async def chunks():
            changed = endpoint_slice("a", "10.0.0.1")
            changed["metadata"]["resourceVersion"] = "101"
            self.reflector.relist()
            yield json.dumps({"type": "ADDED", "object": changed}).encode() + b"\n"
            await asyncio.get_running_loop().create_future()

        yield chunks


async def test_a_new_list_that_is_wished_while_an_event_arrives_is_taken():
    api = WishedAnew()
    api.reflector = Reflector(
        api,
        Target(SLICES),
        timing=FAST,
        random=Random(1),
        clock=asyncio.get_running_loop().time,
        report=print,
        counters=Counters(METRICS),
        label="fake",
    )
    async with asyncio.timeout(5.0), contextlib.aclosing(api.reflector.batches()) as batches:
        assert (await anext(batches)).complete
        assert (await anext(batches)).complete
    assert api.lists == 2
