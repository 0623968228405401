"""Streams to dead, slow and hostile servers cost themselves, and nobody else."""

import asyncio
import contextlib
import socket
import threading
from random import Random

import grpc
import grpc.aio
import pytest
import trustme
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

from plane import ANY_PORT, QueueSource, eventually, pause, running, updated
from trimtab.control import metrics
from trimtab.control.config import Address, Config
from trimtab.control.report_streams import OutOfBand, ReportStreams
from trimtab.control.serve import ControlPlane, ServeOptions
from trimtab.control.server_loads import ServerLoads
from trimtab.errors import ConfigError
from trimtab.model import Synced
from trimtab.server import ServerLoad, add_load_report_service
from trimtab.telemetry import Counters
from trimtab.xds import orca
from trimtab.xds.catalog import Catalog

FAST = OutOfBand(streams=10, interval_seconds=0.1)


@contextlib.asynccontextmanager
async def server(behavior=None, *, credentials=None):
    """Whatever answers the subscription, or a well-behaved server: its port."""
    one = grpc.aio.server()
    if behavior is None:
        add_load_report_service(one, ServerLoad(), least_interval_s=0.1)
    else:
        service, method = orca.METHOD[1:].split("/")
        handler = grpc.unary_stream_rpc_method_handler(behavior)
        one.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
    port = (
        one.add_secure_port("127.0.0.1:0", credentials)
        if credentials
        else one.add_insecure_port("127.0.0.1:0")
    )
    await one.start()
    try:
        yield port
    finally:
        await one.stop(None)


@contextlib.asynccontextmanager
async def reading(*ports, options=FAST):
    """A control plane that reads these endpoints."""
    source = QueueSource(updated("orders", *ports, out_of_band=True), Synced())
    async with running(source, config=Config(out_of_band=options)) as plane:
        yield plane, source


def credentials(ca, name):
    issued = ca.issue_cert(name)
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    return grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])


def states(plane):
    seen = plane.server.loads.servers.view("orders.shop:8080")
    return {int(s["endpoint"].rpartition(":")[2]): s["state"] for s in seen}


async def silent(_request, _context):
    await asyncio.Event().wait()
    yield b""


async def garbage(_request, _context):
    yield b"\xff\xff\xff"
    await asyncio.Event().wait()


async def too_large(_request, _context):
    yield OrcaLoadReport(utilization={f"{n}": 1.0 for n in range(10_000)}).SerializeToString()
    await asyncio.Event().wait()


async def ends_at_once(_request, _context):
    yield b""


@pytest.mark.parametrize(
    ("behavior", "state"),
    [(garbage, "garbage"), (too_large, "resource_exhausted"), (ends_at_once, "ended")],
)
async def test_a_server_that_breaks_the_rules_is_left_alone_and_the_others_are_read(
    behavior, state
):
    async with (
        server(behavior) as bad,
        server() as good,
        reading(bad, good) as (plane, _),
    ):
        await eventually(lambda: states(plane) == {bad: state, good: "reading"}, within=20)


async def test_a_dead_port_and_one_without_the_service_are_named_as_such():
    plain = grpc.aio.server()
    port = plain.add_insecure_port("127.0.0.1:0")
    await plain.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        dead = taken.getsockname()[1]
        async with reading(port, dead) as (plane, _):
            wanted = {port: "unimplemented", dead: "unavailable"}
            await eventually(lambda: states(plane) == wanted, within=20)
            assert plane.counters.get(metrics.SERVER_FAILURES, "unimplemented") >= 1
    await plain.stop(None)


async def test_a_server_that_floods_is_read_at_the_pace_that_was_asked_for():
    sent = []

    async def flood(_request, _context):
        while True:
            sent.append(1)
            yield OrcaLoadReport(rps_fractional=1e300).SerializeToString() * 100

    class Counting(ServerLoads):
        taken = 0

        def take(self, target, report):
            self.taken += 1
            super().take(target, report)

    async with server(flood) as port:
        catalog = Catalog()
        for event in (updated("orders", port, out_of_band=True), Synced()):
            catalog.apply(event)
        clock = asyncio.get_running_loop().time
        loads = Counting(catalog, Counters(metrics.METRICS), clock)
        streams = ReportStreams(loads, OutOfBand(streams=1, interval_seconds=0.2), Random(1))
        following = asyncio.create_task(streams.run())
        begun = clock()
        await eventually(lambda: loads.taken >= 5, within=20)
        taken, took = loads.taken, clock() - begun
        # What it wanted to send meanwhile waits at its own end.
        before = len(sent)
        await pause(0.5)
        assert len(sent) - before < 100
        assert taken <= took / 0.1 + 1
        assert loads.view("orders.shop:8080")[0]["requests_per_second"] == 1e9
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_silent_server_holds_up_nobody_and_has_no_say():
    async with server(silent) as quiet, server() as good, reading(quiet, good) as (plane, _):
        wanted = {quiet: "waiting", good: "reading"}
        await eventually(lambda: states(plane) == wanted, within=20)


async def test_no_more_streams_are_open_than_allowed_and_none_that_is_not_wanted():
    open_now = set()

    async def counted(_request, context):
        open_now.add(context)
        try:
            while True:
                yield b""
                await pause(0.05)
        finally:
            open_now.discard(context)

    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(server(counted)) for _ in range(3)]
        few = OutOfBand(streams=2, interval_seconds=0.1)
        plane, source = await stack.enter_async_context(reading(*ports, options=few))
        await eventually(lambda: sum(s == "reading" for s in states(plane).values()) == 2)
        assert len(open_now) == 2
        source.put(updated("orders", min(ports), out_of_band=True))
        await eventually(lambda: len(open_now) == 1, within=20)
    await eventually(lambda: not open_now)


async def test_nobody_is_asked_unless_the_operator_allows_it():
    asked = threading.Event()

    async def noted(_request, _context):
        asked.set()
        yield b""

    async with server(noted) as port, reading(port, options=OutOfBand()) as (plane, _):
        await eventually(lambda: states(plane))
        await pause(0.5)
        assert not asked.is_set()
        assert states(plane) == {port: "waiting"}


async def test_with_an_authority_only_servers_with_the_services_name_are_read(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")

    options = OutOfBand(streams=10, interval_seconds=0.1, ca=str(tmp_path / "ca.pem"))
    async with (
        server(credentials=credentials(ca, "orders.shop.svc")) as right,
        server(credentials=credentials(ca, "pay.shop.svc")) as wrong,
        reading(right, wrong, options=options) as (plane, source),
    ):
        wanted = {right: "reading", wrong: "unavailable"}
        await eventually(lambda: states(plane) == wanted, within=20)
        # The address goes to the Service that the certificate names.
        source.put(updated("orders", right), updated("pay", wrong, out_of_band=True))
        view = plane.server.loads.servers.view
        await eventually(
            lambda: [s["state"] for s in view("pay.shop:8080")] == ["reading"], within=20
        )


def test_an_authority_that_cannot_be_read_is_an_error_before_anything_starts(tmp_path):
    options = OutOfBand(streams=1, ca=str(tmp_path / "nothing.pem"))
    with pytest.raises(ConfigError, match=r"out_of_band\.ca: .*nothing\.pem"):
        options.authorities()
    (tmp_path / "nothing.pem").write_text("x")
    with pytest.raises(ConfigError, match=r"out_of_band\.ca: .*nothing\.pem"):
        options.authorities()


async def test_an_authority_that_is_replaced_is_used_and_what_is_none_changes_nothing(
    tmp_path, caplog
):
    old, new, path = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    old.cert_pem.write_to_path(path)
    options = OutOfBand(streams=10, interval_seconds=0.1, ca=str(path))
    async with (
        server(credentials=credentials(old, "orders.shop.svc")) as one,
        server(credentials=credentials(new, "orders.shop.svc")) as two,
        reading(one, options=options) as (plane, source),
    ):
        await eventually(lambda: states(plane) == {one: "reading"}, within=30)
        path.write_text("-----BEGIN CERTIFICATE-----")
        await eventually(lambda: "the last good authorities stay in use" in caplog.text, within=30)
        source.put(updated("orders", out_of_band=True))
        await eventually(lambda: states(plane) == {}, within=30)
        source.put(updated("orders", one, out_of_band=True))
        await eventually(lambda: states(plane) == {one: "reading"}, within=60)
        path.write_bytes(new.cert_pem.bytes())
        source.put(updated("orders", two, out_of_band=True))
        await eventually(lambda: states(plane) == {two: "reading"}, within=60)


@pytest.mark.parametrize(
    ("host", "told"), [("127.0.0.1", True), ("0.0.0.0", False)], ids=["loopback", "everybody"]
)
async def test_an_admin_port_that_anybody_may_read_does_not_tell_which_ports_are_open(host, told):
    options = ServeOptions(xds=ANY_PORT, admin=Address(host, 0), insecure=True)
    plane = ControlPlane(options)  # which listens nowhere before it is started
    assert plane.server.loads.servers.tells_reasons is told
