"""The public fakes keep the promises that users' tests rely on."""

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading

import pytest

from trimtab.client.subscription import subscribe
from trimtab.errors import ConfigError, DiscoveryError
from trimtab.model import Endpoint, Health, Removed, ServicePort, Snapshot, Synced, Updated
from trimtab.testing import ControlPlane, FakeClock, FakeSource
from trimtab.xds.server_events import Acked

NAME = "orders.shop:grpc"


class Told:
    """A watcher that hands over what it was told, one by one."""

    def __init__(self):
        self._news = []
        self._more = threading.Condition()

    def updated(self, snapshot):
        self._add(snapshot)

    def failed(self, reason):
        self._add(reason)

    def _add(self, news):
        with self._more:
            self._news.append(news)
            self._more.notify()

    def next(self):
        with self._more:
            assert self._more.wait_for(lambda: self._news, 15), "nothing was told"
            return self._news.pop(0)


def test_a_fake_clock_moves_only_when_told():
    clock = FakeClock(10.0)
    assert clock() == clock() == 10.0
    assert clock.advance(2.5) == clock() == 12.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


async def test_a_fake_source_says_what_is_pushed_in_order_and_then_fails():
    snapshot = Snapshot("orders.shop:8080")
    source = FakeSource(Updated(snapshot), Synced())
    events = source.events()
    async with asyncio.timeout(15):
        assert [await anext(events) for _ in range(2)] == [Updated(snapshot), Synced()]
        source.push(Removed("orders.shop:8080"))
        source.fail("the API server is gone")
        assert await anext(events) == Removed("orders.shop:8080")
        with pytest.raises(DiscoveryError, match="API server"):
            await anext(events)


def test_a_control_plane_tells_what_was_set_changed_and_removed():
    told = Told()
    with ControlPlane() as control_plane:
        control_plane.set(NAME, ["10.0.0.1:50051", Endpoint("10.0.0.2", 1, health=Health.DRAINING)])
        watch = subscribe(NAME, told, control_plane.bootstrap())
        assert [(e.target, e.health) for e in told.next().endpoints] == [
            ("10.0.0.1:50051", Health.READY),
            ("10.0.0.2:1", Health.DRAINING),
        ]
        control_plane.set(NAME, [])
        assert told.next().endpoints == ()
        control_plane.remove(NAME)
        control_plane.remove(NAME)
        assert NAME in told.next()
        (client,) = control_plane.clients()
        assert client.node.node_id == control_plane.bootstrap().node.id
        watch.close()


def test_a_whole_snapshot_answers_to_all_names_of_its_service():
    port = ServicePort("orders", "shop", 8080, "grpc")
    snapshot = Snapshot(port.cluster, (Endpoint("10.0.0.1", 1),), service=port)
    with ControlPlane() as control_plane:
        control_plane.set(snapshot)
        for name in ("orders.shop:8080", "orders.shop:grpc", "orders.shop", "orders"):
            told = Told()
            watch = subscribe(name, told, control_plane.bootstrap(namespace="shop"))
            assert told.next() == snapshot
            watch.close()


def test_a_control_plane_keeps_port_and_state_over_a_restart():
    control_plane = ControlPlane()
    with control_plane:
        control_plane.set(NAME, ["10.0.0.1:1"])
        address = control_plane.address
        with pytest.raises(RuntimeError, match="runs already"):
            control_plane.start()
    control_plane.stop()
    with control_plane:
        assert control_plane.address == address
        told = Told()
        watch = subscribe(NAME, told, control_plane.bootstrap())
        assert [e.target for e in told.next().endpoints] == ["10.0.0.1:1"]
        watch.close()


def test_a_control_plane_keeps_nothing_of_what_a_client_has_acknowledged():
    with ControlPlane() as control_plane:
        told = Told()
        watch = subscribe(NAME, told, control_plane.bootstrap())
        for i in range(1, 101):
            control_plane.set(NAME, [f"10.0.0.{i}:80"])
            while told.next().endpoints != (Endpoint(f"10.0.0.{i}", 80),):
                pass
        kept = sum(isinstance(each, Acked) for each in gc.get_objects())
        watch.close()
    assert kept < 10


def test_wrong_use_of_a_control_plane_says_what_is_right():
    control_plane = ControlPlane()
    with pytest.raises(RuntimeError, match="start it"):
        control_plane.bootstrap()
    with pytest.raises(ConfigError, match=r"endpoints\[0\]"):
        control_plane.set(NAME, ["no port"])
    with pytest.raises(TypeError, match="a cluster name and endpoints"):
        control_plane.set(NAME)
    with pytest.raises(TypeError, match="takes a Snapshot"):
        control_plane.set(Snapshot("a.b:1"), ["10.0.0.1:1"])


NATIVE = """
import grpc
from concurrent.futures import ThreadPoolExecutor
import sys
server = grpc.server(ThreadPoolExecutor(2))
say = grpc.unary_unary_rpc_method_handler(lambda request, context: b"native")
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Echo", {"Say": say}),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.readline()
with grpc.insecure_channel("xds:///orders.shop:grpc") as channel:
    print(channel.unary_unary("/demo.Echo/Say")(b"", timeout=15).decode(), flush=True)
server.stop(None).wait()
"""


@pytest.mark.processes
def test_a_native_grpc_client_can_use_it_too():
    with ControlPlane() as control_plane:
        server = {"server_uri": control_plane.address, "channel_creds": [{"type": "insecure"}]}
        bootstrap = {"xds_servers": [server], "node": {"id": "native"}}
        environment = os.environ | {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
        with subprocess.Popen(
            [sys.executable, "-c", NATIVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            port = process.stdout.readline().strip()
            control_plane.set(NAME, [f"127.0.0.1:{port}"])
            out, _ = process.communicate("go\n", timeout=30)
            assert (process.returncode, out.strip()) == (0, "native")
