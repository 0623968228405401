"""The kill switch by annotation, under load: from the manifests to running clients of all kinds, on and off again."""

import json
import threading
from contextlib import ExitStack

import httpx
import pytest

import trimtab
import trimtab.aio
import trimtab.httpx
from doors.loop import Loop
from harness.echo_process import METHOD, SERVICE
from harness.manifests import Pod
from harness.waiting import Unmet, eventually
from http_servers import HttpServers

pytestmark = pytest.mark.processes

TARGET = "xds:///orders.shop:grpc"
NOW = b"0"  # milliseconds of work
MANY = 24
BY_KEY = {"policy": "ring_hash"}  # the caller's own policy; the switch goes before it
# The process's subscription may still hold what the last test's control plane said.
WAITS = {"wait_for_ready": True, "timeout": 8}
WITHIN_S = 30


class Load:
    """One caller, with always the same key.

    Args:
        ask: sends a request; the name of who answered.
    """

    def __init__(self, name, ask):
        self.name = name
        self.errors = []
        self._served = []
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with trimtab.request_key("the same"):
            while not self._stop.is_set():
                try:
                    self._served.append(self._ask())
                except Exception as error:  # noqa: BLE001 - whatever fails is counted
                    self.errors.append(repr(error))

    @property
    def sent(self):
        return len(self._served) + len(self.errors)

    def servers(self, since):
        """Who answered after so many requests; None: too few did for it to mean anything."""
        found = self._served[since:]
        return None if len(found) < MANY else set(found)

    def stop(self):
        self._stop.set()
        self._thread.join()


def serve(pods, manifests, **annotations):
    """Both Services, with these annotations."""
    told = {f"trimtab.dev/{name}": value for name, value in annotations.items()}
    for service, port_name in (("orders", "grpc"), ("web", "http")):
        manifests.write(service, "shop", pods[service], port_name=port_name, annotations=told)


def all_served_by(loads, number):
    """Whether each client's requests of a short while from now go to so many servers."""
    before = {load: load.sent for load in loads}

    def seen():
        found = {load: load.servers(since) for load, since in before.items()}
        return None not in found.values() and found

    found = eventually(seen, within=WITHIN_S, what="all have sent some more")
    told = {load.name: sorted(servers) for load, servers in found.items()}
    return all(len(servers) == number for servers in told.values()) or Unmet(told)


@pytest.fixture
def pods(orders, manifests):
    """Two of each Service, told before the control plane starts."""
    web = HttpServers()
    made = {
        "orders": list(orders.values()),
        "web": [Pod(server.name, server.port) for server in web.open("c", "d")],
    }
    serve(made, manifests)
    yield made
    web.close()


@pytest.fixture
def loads(pods, control_plane):
    """The same key again and again, over each kind of client."""
    bootstrap = json.loads(control_plane.bootstrap("grpc", node_id="switched", namespace="shop"))
    with ExitStack() as ends:
        loop = Loop()
        ends.callback(loop.stop)
        on_loop = loop.do(trimtab.aio.insecure_channel, TARGET, bootstrap=bootstrap, **BY_KEY)
        ends.callback(lambda: loop.run(on_loop.close()))
        blocking = trimtab.insecure_channel(TARGET, bootstrap=bootstrap, **BY_KEY)
        ends.callback(blocking.close)
        transport = trimtab.httpx.Transport(hosts=["*.shop"], bootstrap=bootstrap, **BY_KEY)
        client = ends.enter_context(httpx.Client(transport=transport, timeout=10))
        awaited = on_loop.unary_unary(f"/{SERVICE}/{METHOD}")
        who = blocking.unary_unary(f"/{SERVICE}/{METHOD}")

        async def ask():
            with trimtab.request_key("the same"):
                return await awaited(NOW, **WAITS)

        made = [
            Load("asyncio", lambda: loop.run(ask())),
            Load("threads", lambda: who(NOW, **WAITS)),
            Load("httpx", lambda: client.get("http://web.shop:8080/").json()["server"]),
        ]
        for load in made:
            ends.callback(load.stop)
        yield made


def test_the_annotation_switches_every_client_to_round_robin_and_back_and_no_request_fails(
    loads, pods, manifests
):
    def go_to(number):
        eventually(lambda: all_served_by(loads, number), within=WITHIN_S, what=f"{number} serve")

    for _ in range(2):
        go_to(1)  # by the caller's own policy the same key goes to the same server
        serve(pods, manifests, disable="on")
        go_to(2)
        serve(pods, manifests, disable="off")
    go_to(1)
    serve(pods, manifests, disable="on")
    go_to(2)
    serve(pods, manifests)
    go_to(1)
    assert [load.errors for load in loads] == [[], [], []]
    assert min(load.sent for load in loads) > MANY
