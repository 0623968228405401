"""The control plane's real parts in this process, with a source that a test feeds."""

import asyncio
import contextlib
import json

import aiohttp
import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from yarl import URL

from trimtab.control.config import Address
from trimtab.control.serve import ControlPlane, ServeOptions
from trimtab.model import Endpoint, Health, Locality, ServicePort, Snapshot, Updated
from trimtab.xds import type_urls, wire_pb2

ANY_PORT = Address("127.0.0.1", 0)
FEWEST_LOOKS = 200


class QueueSource:
    """Yields what a test puts in; raises what a test puts in."""

    def __init__(self, *events):
        self._queue = asyncio.Queue()
        self.standing = None  # what contact() says
        self.put(*events)

    def put(self, *events):
        for event in events:
            self._queue.put_nowait(event)

    @property
    def empty(self):
        return self._queue.empty()

    def contact(self):
        return self.standing

    async def events(self):
        while (event := await self._queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


def snapshot(
    service="orders",
    *ports,
    namespace="shop",
    health=Health.READY,
    port_name="grpc",
    zone="z1",
    out_of_band=False,
):
    """``SERVICE.NAMESPACE:8080`` with endpoints on 127.0.0.1."""
    locality = Locality("r", zone)
    return Snapshot(
        f"{service}.{namespace}:8080",
        tuple(Endpoint("127.0.0.1", port, health=health, locality=locality) for port in ports),
        service=ServicePort(service, namespace, 8080, port_name, out_of_band=out_of_band),
    )


def updated(service="orders", *ports, **how):
    return Updated(snapshot(service, *ports, **how))


async def pause(seconds=0.005):
    """Let other tasks and threads go on for a moment; never to be relied on for order."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()


async def eventually(look, *, within=20.0, every=0.005):
    """Wait until ``look()`` is true, and return it.

    A loop that stands still does not look, so there are some looks however late it is.
    """
    clock = asyncio.get_running_loop().time
    end, looks = clock() + within, 0
    while not (seen := look()):
        looks += 1
        if clock() > end and looks > FEWEST_LOOKS:
            raise TimeoutError(f"not within {within:g} s; last seen: {seen}")
        await pause(every)
    return seen


@contextlib.asynccontextmanager
async def running(*sources, **options):
    """A control plane on free ports, fed by these sources."""
    plane = ControlPlane(ServeOptions(**{"xds": ANY_PORT, "admin": ANY_PORT, **options}))
    await plane.start()
    named = [(f"source-{i}", lambda _report, _counters, s=s: s) for i, s in enumerate(sources)]
    following = asyncio.create_task(plane.follow(named))
    try:
        yield plane
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await plane.stop()


ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
EDS_SERVICE = "/envoy.service.endpoint.v3.EndpointDiscoveryService"


class RawClient:
    """A gRPC client that writes and reads xDS messages one by one."""

    def __init__(self, address, credentials=None):
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = (
            grpc.aio.secure_channel(str(address), credentials, options=options)
            if credentials
            else grpc.aio.insecure_channel(str(address), options=options)
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self._channel.close()

    def opened(self, method):
        """A call of any method: bytes in, bytes out."""
        return self._channel.stream_stream(method)()

    def sotw(self, *, method=f"{ADS}/StreamAggregatedResources", agent="envoy"):
        return RawStream(
            self._channel, method, wire_pb2.DiscoveryRequest, wire_pb2.DiscoveryResponse, agent
        )

    def delta(self, *, method=f"{ADS}/DeltaAggregatedResources", agent="envoy"):
        return RawStream(
            self._channel,
            method,
            wire_pb2.DeltaDiscoveryRequest,
            wire_pb2.DeltaDiscoveryResponse,
            agent,
        )


class RawStream:
    def __init__(self, channel, method, request, response, agent):
        self._request = request
        self._agent = agent
        self.call = channel.stream_stream(
            method,
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=response.FromString,
        )()

    async def send(self, **fields):
        await self.call.write(self._request(**fields))

    async def hello(self, **fields):
        """The first request, which says who asks."""
        node = {"id": "test-node", "user_agent_name": self._agent}
        await self.send(node=node, **fields)

    async def ack(self, response, **fields):
        if self._request is wire_pb2.DiscoveryRequest:
            fields["version_info"] = response.version_info
        await self.send(type_url=response.type_url, response_nonce=response.nonce, **fields)

    async def read(self, within=20.0):
        async with asyncio.timeout(within):
            return await self.call.read()

    async def silent(self, seconds=0.2):
        """Whether nothing comes for a while. A read that timed out would end the call."""
        reading = asyncio.ensure_future(self.call.read())
        done, _ = await asyncio.wait([reading], timeout=seconds)
        self._reading = reading
        return not done

    async def read_after_silence(self, within=20.0):
        return await asyncio.wait_for(self._reading, within)

    async def status(self, within=20.0):
        async with asyncio.timeout(within):
            return await self.call.code(), await self.call.details()


def assignments(response):
    """Cluster name to sorted ports, of an EDS response of either kind."""
    found = {}
    for item in response.resources:
        body = item if isinstance(item, bytes) else item.resource
        any_ = Any.FromString(body)
        assert any_.type_url == type_urls.EDS
        load = wire_pb2.ClusterLoadAssignment.FromString(any_.value)
        endpoints = [
            wire_pb2.LbEndpoint.FromString(body)
            for locality in load.endpoints
            for body in locality.lb_endpoints
        ]
        found[load.cluster_name] = sorted(
            e.endpoint.address.socket_address.port_value for e in endpoints
        )
    return found


async def get(address, path, *, headers=None, method="GET", tls=None):
    """Status, headers and body of an admin page; JSON is parsed."""
    url = URL(f"{'https' if tls else 'http'}://{address}{path}", encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, ssl=tls or True) as response,
    ):
        text = await response.text()
        if response.content_type == "application/json":
            text = json.loads(text)
        return response.status, response.headers, text
