"""What each client has, asked over gRPC as the official messages have it (CSDS)."""

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from envoy.admin.v3 import config_dump_shared_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from envoy.type.matcher.v3 import node_pb2, string_pb2, struct_pb2

from certificates import Authority
from encodings_count import Encodings
from identities import client_tls, tokens, with_token, write_pair
from plane import QueueSource, RawClient, eventually, get, pause, running, updated
from trimtab.client.bootstrap import Bootstrap
from trimtab.client.subscription import subscribe
from trimtab.control.config import Config
from trimtab.control.security import SecurityOptions
from trimtab.control.status_stream import Clients
from trimtab.control.tls import TlsFiles
from trimtab.model import Endpoint, ServicePort, Snapshot, Synced, Updated
from trimtab.xds import type_urls
from trimtab.xds.assignments import _lb_endpoint, assignment_resource
from trimtab.xds.large_assignment import LARGE
from xds_peer import Plane, service, snapshot

ORDERS = "orders.shop:8080"
STATES = config_dump_shared_pb2.ClientResourceStatus


class Told:
    """A watcher of trimtab's own client."""

    def __init__(self):
        self.snapshots = []

    def updated(self, snapshot):
        self.snapshots.append(snapshot)

    def failed(self, _reason):
        pass


def now():
    return datetime.now(UTC).timestamp()


@contextlib.asynccontextmanager
async def asking(plane, credentials=None):
    address = str(plane.xds_address)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.aio.secure_channel(address, credentials, options)
        if credentials
        else grpc.aio.insecure_channel(address, options)
    )
    async with channel:
        yield csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)


@contextlib.asynccontextmanager
async def own_client(plane, node_id="web-1"):
    """A subscription of trimtab's own client that has its endpoints."""
    told = Told()
    watch = subscribe(ORDERS, told, Bootstrap.of(str(plane.xds_address), node_id=node_id))
    try:
        await eventually(lambda: told.snapshots)
        yield
    finally:
        watch.close()


def request(*matchers, contents=False):
    return csds_pb2.ClientStatusRequest(
        node_matchers=[node_pb2.NodeMatcher(node_id=matcher) for matcher in matchers],
        exclude_resource_contents=not contents,
    )


def accepted(plane):
    """Whether every client has accepted all that it was sent."""
    states = [s.state for stream in plane.server.streams for s in stream.session.status()]
    return all(state == "acked" for state in states)


def shown(config):
    return {one.type_url: one for one in config.generic_xds_configs}


async def test_a_client_is_shown_with_the_versions_and_contents_that_it_accepted():
    begun = now()
    async with (
        running(QueueSource(updated("orders", 1, 2), Synced())) as plane,
        own_client(plane),
        asking(plane) as stub,
    ):
        await eventually(lambda: accepted(plane))
        (config,) = (await stub.FetchClientStatus(request(contents=True), timeout=5)).config
        _, _, page = await get(plane.admin_address, "/api/v1/clients")
    assert config.node.id == "web-1"
    assert config.node.user_agent_name.startswith("trimtab")
    resources = shown(config)
    assert resources.keys() == {type_urls.LDS, type_urls.CDS, type_urls.EDS}
    known = {r["type"]: r for r in page["clients"][0]["resources"]}
    for type_url, one in resources.items():
        assert one.client_status == STATES.Value("ACKED")
        assert one.config_status == csds_pb2.SYNCED
        assert one.version_info == known[type_url.rpartition(".")[2]]["acked"] != ""
        assert begun - 1 <= one.last_updated.ToNanoseconds() / 1e9 <= now() + 1
        assert not one.HasField("error_state")
    cluster, endpoints = cluster_pb2.Cluster(), endpoint_pb2.ClusterLoadAssignment()
    assert resources[type_urls.CDS].xds_config.Unpack(cluster)
    assert resources[type_urls.EDS].xds_config.Unpack(endpoints)
    assert cluster.name == ORDERS
    assert sum(len(zone.lb_endpoints) for zone in endpoints.endpoints) == 2


async def test_the_program_in_the_documentation_shows_what_clients_have(capsys):
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    code = page.partition("```py\n")[2].partition("```")[0]
    space = {}
    exec(compile(code, "operations.md", "exec"), space)
    async with running(QueueSource(updated("orders", 1), Synced())) as plane, own_client(plane):
        await eventually(lambda: accepted(plane))
        await asyncio.to_thread(space["show"], str(plane.xds_address))
    assert capsys.readouterr().out.count(f"web-1 {ORDERS}") == 3


async def test_a_rejected_version_is_shown_with_its_error_beside_the_one_in_use():
    source = QueueSource(updated("orders", 1), Synced())
    async with (
        running(source) as plane,
        RawClient(plane.xds_address) as client,
        asking(plane) as stub,
    ):
        stream = client.sotw()
        await stream.hello(type_url=type_urls.EDS, resource_names=[ORDERS])
        first = await stream.read()
        await stream.send(
            type_url=type_urls.EDS,
            resource_names=[ORDERS],
            version_info=first.version_info,
            response_nonce=first.nonce,
        )
        source.put(updated("orders", 1, 2))
        second = await stream.read()
        await stream.send(
            type_url=type_urls.EDS,
            resource_names=[ORDERS],
            version_info=first.version_info,
            response_nonce=second.nonce,
            error_detail={"code": 3, "message": "weights don't add up"},
        )

        async def status():
            (config,) = (await stub.FetchClientStatus(request(), timeout=5)).config
            return shown(config)[type_urls.EDS]

        async with asyncio.timeout(5):
            while (seen := await status()).client_status != STATES.Value("NACKED"):
                await pause()
    assert seen.config_status == csds_pb2.ERROR
    assert seen.error_state.details == "weights don't add up"
    assert abs(seen.error_state.last_update_attempt.ToNanoseconds() / 1e9 - now()) < 30
    assert seen.version_info != ""
    assert not seen.HasField("xds_config")


async def test_what_does_not_exist_is_shown_as_such():
    async with (
        running(QueueSource(updated("orders", 1), Synced())) as plane,
        RawClient(plane.xds_address) as client,
        asking(plane) as stub,
    ):
        await plane.store.synced.wait()
        stream = client.sotw()
        await stream.hello(type_url=type_urls.CDS, resource_names=["nosuch.shop:1"])
        await eventually(lambda: [s for s in plane.server.streams if s.session.client])
        (config,) = (await stub.FetchClientStatus(request(), timeout=5)).config
    (one,) = config.generic_xds_configs
    assert one.name == "nosuch.shop:1"
    assert one.client_status == STATES.Value("DOES_NOT_EXIST")


async def test_clients_are_chosen_by_their_node_ids():
    ids = ("web-1", "web-2", "till-1")
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            running(QueueSource(updated("orders", 1), Synced()))
        )
        for node_id in ids:
            await stack.enter_async_context(own_client(plane, node_id))
        stub = await stack.enter_async_context(asking(plane))

        async def found(*matchers):
            answer = await stub.FetchClientStatus(request(*matchers), timeout=5)
            return {config.node.id for config in answer.config}

        match = string_pb2.StringMatcher
        assert await found() == set(ids)
        assert await found(match(exact="web-1")) == {"web-1"}
        assert await found(match(prefix="WEB", ignore_case=True)) == {"web-1", "web-2"}
        assert await found(match(suffix="-1")) == {"web-1", "till-1"}
        assert await found(match(contains="ll"), match(exact="web-2")) == {"till-1", "web-2"}
        assert await found(match(exact="WEB-1")) == set()
        regex = match()
        regex.safe_regex.regex = ".*"
        unsupported = [
            request(regex),
            request(match()),
            csds_pb2.ClientStatusRequest(
                node_matchers=[node_pb2.NodeMatcher(node_metadatas=[struct_pb2.StructMatcher()])]
            ),
        ]
        for asked in unsupported:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.FetchClientStatus(asked, timeout=5)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "node_matchers" in refused.value.details()


async def test_each_question_of_a_stream_is_answered_by_what_is_then():
    async with (
        running(QueueSource(updated("orders", 1), Synced())) as plane,
        asking(plane) as stub,
    ):
        call = stub.StreamClientStatus()
        await call.write(request())
        assert not (await call.read()).config
        async with own_client(plane):
            await call.write(request())
            assert [config.node.id for config in (await call.read()).config] == ["web-1"]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        await eventually(lambda: plane.counters.get("trimtab_streams_total", "csds", "sotw") == 1)


async def test_an_answer_too_large_for_a_message_is_refused_with_what_to_do():
    endpoints = tuple(
        Endpoint(f"10.{n // 60000}.{n // 250 % 240}.{n % 250}", 1) for n in range(9000)
    )
    port = ServicePort("orders", "shop", 8080, "grpc")
    source = QueueSource(Updated(Snapshot(ORDERS, endpoints, service=port)), Synced())
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(running(source))
        await plane.store.synced.wait()
        for n in range(24):
            await stack.enter_async_context(own_client(plane, f"web-{n}"))
        await eventually(lambda: accepted(plane))
        stub = await stack.enter_async_context(asking(plane))
        with pytest.raises(grpc.aio.AioRpcError, match="node_matchers"):
            await stub.FetchClientStatus(request(contents=True), timeout=10)
        answer = await stub.FetchClientStatus(request(), timeout=10)
        assert len(answer.config) == 24


def test_of_a_large_cluster_that_has_changed_nothing_is_encoded_to_be_shown():
    many = [f"10.{i // 62500}.{i // 250 % 250}.{i % 250}" for i in range(LARGE + 2)]
    plane = Plane()
    plane.update(snapshot(*many, of=service()))
    plane.apply(Synced())
    peer = plane.sotw("trimtab")
    peer.ask(type_urls.EDS, ORDERS)
    peer.drain()
    stream = SimpleNamespace(
        session=peer.session, number=1, service="ads", transport="sotw", peer="127.0.0.1:1"
    )
    question = request(contents=True).SerializeToString()

    def contents():
        asked = Clients([stream], plane.catalog, None, (), now=0.0, unix=0.0)
        with Encodings(_lb_endpoint, assignment_resource) as encoded:
            answer = csds_pb2.ClientStatusResponse.FromString(asked.answer(question))
        assert encoded.count == 0
        ((one,),) = [config.generic_xds_configs for config in answer.config]
        return one.xds_config.type_url

    assert contents() == type_urls.EDS
    plane.update(snapshot(*many[1:], of=service()))
    assert not contents()
    peer.drain()
    assert contents() == type_urls.EDS


async def test_who_proves_who_he_is_sees_his_own_streams_and_a_reader_all(tmp_path):
    authority = Authority()
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    write_pair(files, authority)
    config = tmp_path / "config.yaml"
    config.write_text("{}\n")
    web, till = (with_token(authority, token) for token in ("shop", "bank"))
    async with (
        running(
            QueueSource(updated("orders", 1), Synced()),
            security=SecurityOptions(files, tokens=tokens(tmp_path)),
            config=Config(),
            config_file=config,
        ) as plane,
        RawClient(plane.xds_address, web) as first,
        RawClient(plane.xds_address, till) as second,
        asking(plane, till) as stub,
        asking(plane, client_tls(authority)) as stranger,
    ):
        for client in (first, second):
            await client.sotw().hello(type_url=type_urls.CDS, resource_names=[ORDERS])
        await eventually(lambda: sum(bool(s.session.client) for s in plane.server.streams) == 2)
        subjects = {s.number: s.subject for s in plane.server.streams}

        async def seen():
            answer = await stub.FetchClientStatus(request(), timeout=5)
            return sorted(
                subjects[int(c.client_scope.removeprefix("stream ").partition(":")[0])]
                for c in answer.config
            )

        assert await seen() == ["static:till"]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stranger.FetchClientStatus(request(), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        config.write_text("status_readers: ['static:till']\n")
        async with asyncio.timeout(10):
            while await seen() != ["static:till", "static:web"]:
                await pause(0.05)
