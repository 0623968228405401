"""A reader of the production source, as the control plane is one."""

import asyncio
import contextlib
from dataclasses import replace
from random import Random

from trimtab.discovery.kubernetes.metrics import METRICS
from trimtab.discovery.kubernetes.source import Kubernetes
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.model import Removed, Synced
from trimtab.telemetry import Counters

# Milliseconds in place of seconds: the rules are the same.
FEWEST_TURNS = 200
FAST = Timing(
    page_size=3,
    connect_s=2.0,
    list_s=2.0,
    watch_s=(30.0, 30.0),
    idle_extra_s=1.0,
    bookmark_idle_s=30.0,
    backoff_s=(0.002, 0.02),
    retry_after_max_s=0.2,
    hold_s=0.0,
    healthy_s=0.2,
    short_watch_s=0.02,
    settle_s=0.01,
    check_s=0.0,
)


class Access:
    """The way to a fake server, with a token that can be changed."""

    name = "fake"
    origin = "the test's account"
    namespace = "default"
    proxy = tls_server_name = None

    def __init__(self, api):
        self._api = api
        self.token = None
        self.fresh_token = None  # what is given once the other was refused

    @property
    def server(self):
        return self._api.address

    async def headers(self, *, refused=False):
        if refused and self.fresh_token:
            self.token = self.fresh_token
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def tls(self):
        return True


class View:
    """What a reader of the events knows.

    Attributes:
        clusters: the last snapshot of each.
        synced: whether everything was delivered once.
        told: every event, in order.
        problems: what was rejected.
    """

    def __init__(self, api, *, access=None, **options):
        self.clusters = {}
        self.synced = False
        self.told = []
        self.problems = []
        self.counters = Counters(METRICS)
        timing = replace(FAST, **options.pop("timing", {}))
        self.source = Kubernetes(
            access or Access(api),
            self.problems.append,
            counters=self.counters,
            label="fake",
            timing=timing,
            random=Random(1),
            **options,
        )

    async def read(self):
        async for event in self.source.events():
            self.told.append(event)
            if isinstance(event, Synced):
                self.synced = True
            elif isinstance(event, Removed):
                self.clusters.pop(event.cluster, None)  # it may have come and gone untold
            else:
                self.clusters[event.snapshot.cluster] = event.snapshot

    def addresses(self, cluster="orders.shop:8080"):
        found = self.clusters.get(cluster)
        return None if found is None else [e.address for e in found.endpoints]

    @property
    def reason(self):
        return self.source.contact().reason


async def until(condition, what="", within=30.0):
    """Let the loop run until that is so; for some turns, however late it is."""
    loop = asyncio.get_running_loop()
    end, turns = loop.time() + within, 0
    while not condition():
        turns += 1
        late = loop.time() > end and turns > FEWEST_TURNS
        assert not late, what() if callable(what) else what or "not within the time"
        turned = loop.create_future()
        loop.call_later(0.001, turned.set_result, None)
        await turned


@contextlib.asynccontextmanager
async def viewing(api, *, synced=True, **options):
    """A view that follows the server."""
    view = View(api, **options)
    task = asyncio.create_task(view.read())
    try:
        if synced:
            await until(lambda: view.synced or task.done(), "the first sync")
        yield view
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
