"""A control plane that serves whatever it is given, good or bad, and notes what clients answer.

Over ADS, state of the world or delta. There Listeners and Clusters go in full sets, as the protocol
wants; all else goes one to a response, so that an answer is an answer to one resource.
"""

import asyncio
import re
import threading
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"
FULL_SETS = (
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
)
ENDED = "(no answer: the client ended the stream)"
# An oversized response must leave: what is tested is the client's limit.
OPTIONS = (("grpc.max_send_message_length", -1),)


@dataclass(frozen=True)
class Verdict:
    """What a client said of a version: ``text`` is None for an ACK."""

    text: str | None
    code: int = 0


@dataclass
class _Stream:
    delta: bool
    names: dict = field(default_factory=dict)  # by type: the names asked for; None is all
    sent: dict = field(default_factory=dict)  # by type and name: the version
    open: dict = field(default_factory=dict)  # by nonce: the keys that were in the response
    news: asyncio.Event = field(default_factory=asyncio.Event)
    introduced: bool = False  # a request has come

    @property
    def kind(self):
        return discovery_pb2.DeltaDiscoveryRequest if self.delta else discovery_pb2.DiscoveryRequest

    def ask(self, request):
        """Take over which names of a type are wanted."""
        kind = request.type_url
        if self.delta:
            new, gone = request.resource_names_subscribe, set(request.resource_names_unsubscribe)
            known = self.names.get(kind, () if new else None)
            # Once all are wanted, names add nothing.
            names = None if known is None else [n for n in known if n not in gone] + list(new)
        else:
            names = list(request.resource_names)
            if kind in FULL_SETS and not names and self.names.get(kind) is None:
                names = None
            gone = set(self.names.get(kind) or ()) - set(names or self.names.get(kind) or ())
        for name in gone:
            self.sent.pop((kind, name), None)
        self.names[kind] = names


class ControlPlane:
    """Serves on a port of 127.0.0.1, in a thread of its own; a context manager."""

    def __init__(self):
        self.port = 0
        self.nodes = []  # each distinct client that came: its Node
        self.nodes_again = 0  # later requests of a stream that carried a Node
        self._resources = {}  # by type and name: version, Any
        self._verdicts = {}  # by type, name and version
        self._streams = []
        self._joint = set()  # versions whose resources share a response
        self._versions = count(1)
        self._nonces = count(1)
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_exc):
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def publish(self, *resources, together=False):
        """Replace resources, given as type URL, name and encoded message. Returns a version.

        ``together`` puts those of one type into one response.
        """
        version = str(next(self._versions))

        async def put():
            for type_url, name, body in resources:
                wrapped = any_pb2.Any(type_url=type_url, value=body)
                self._resources[type_url, name] = (version, wrapped)
            if together:
                self._joint.add(version)
            for stream in self._streams:
                stream.news.set()

        self._run(put())
        return version

    def verdict(self, type_url, name, version, within):
        """What the client said of that version; None if it has said nothing in time."""
        with self._changed:
            key = (type_url, name, version)
            self._changed.wait_for(lambda: key in self._verdicts, within)
            return self._verdicts.get(key)

    def wait_asked(self, type_url, *names, within):
        """Wait until one stream has asked for these names."""
        with self._changed:
            asked = self._changed.wait_for(
                lambda: any(set(names) <= set(s.names.get(type_url) or ()) for s in self._streams),
                within,
            )
        assert asked, f"nobody asked for {names}"

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self):
        self._server = grpc.aio.server(options=OPTIONS)
        methods = {
            name: grpc.stream_stream_rpc_method_handler(partial(self._serve, delta))
            for name, delta in (
                ("StreamAggregatedResources", False),
                ("DeltaAggregatedResources", True),
            )
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ADS, methods),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def _stop(self):
        await self._server.stop(0.2)

    async def _serve(self, delta, requests, context):
        stream = _Stream(delta)
        self._streams.append(stream)
        reader = asyncio.create_task(self._read(stream, requests))
        try:
            while not reader.done():
                await stream.news.wait()
                stream.news.clear()
                for response in self._due(stream):
                    await context.write(response.SerializeToString())
        finally:
            self._streams.remove(stream)
            reader.cancel()
            for keys in stream.open.values():
                self._note(keys, Verdict(ENDED))

    async def _read(self, stream, requests):
        try:
            async for raw in requests:
                request = stream.kind.FromString(raw)
                if request.HasField("node"):
                    self.nodes_again += stream.introduced
                    if request.node not in self.nodes:
                        self.nodes.append(request.node)
                stream.introduced = True
                self._take(stream, request)
                stream.news.set()
        finally:
            stream.news.set()

    def _take(self, stream, request):
        with self._changed:
            stream.ask(request)
            self._changed.notify_all()
        keys = stream.open.pop(request.response_nonce, None)
        if keys is not None:
            if request.HasField("error_detail"):
                detail = request.error_detail
                for key, index in keys.items():
                    self._note([key], Verdict(_about(detail.message, index), detail.code))
            else:
                self._note(keys, Verdict(None))

    def _note(self, keys, verdict):
        with self._changed:
            for key in keys:
                self._verdicts.setdefault(key, verdict)
            self._changed.notify_all()

    def _due(self, stream):
        for type_url, names in list(stream.names.items()):
            known = [k for k in self._resources if k[0] == type_url]
            keys = [k for k in known if names is None or k[1] in names]
            new = [k for k in keys if stream.sent.get(k) != self._resources[k][0]]
            # An empty set is an answer as well: Envoy waits for it.
            awaited = names is None and type_url not in stream.sent
            stream.sent[type_url] = True
            if (awaited and not new) or (new and type_url in FULL_SETS and not stream.delta):
                yield self._response(stream, type_url, keys, new)
            else:
                for keys in self._portions(new):
                    yield self._response(stream, type_url, keys, keys)

    def _portions(self, keys):
        joint = {}
        for key in keys:
            version = self._resources[key][0]
            joint.setdefault(version if version in self._joint else key, []).append(key)
        return list(joint.values())

    def _response(self, stream, type_url, keys, new):
        nonce = str(next(self._nonces))
        stream.open[nonce] = {(*k, self._resources[k][0]): keys.index(k) for k in new}
        for key in keys:
            stream.sent[key] = self._resources[key][0]
        bodies = [self._resources[k] for k in keys]
        if stream.delta:
            return discovery_pb2.DeltaDiscoveryResponse(
                system_version_info=nonce,
                nonce=nonce,
                type_url=type_url,
                resources=[
                    discovery_pb2.Resource(name=k[1], version=version, resource=body)
                    for k, (version, body) in zip(keys, bodies, strict=True)
                ],
            )
        return discovery_pb2.DiscoveryResponse(
            version_info=nonce,
            nonce=nonce,
            type_url=type_url,
            resources=[body for _, body in bodies],
        )


def _about(text, index):
    """What a text says of the resource at an index; all of it if it tells none apart; None: ACK."""
    parts = re.findall(r"resource index (\d+): (.*?)(?=; resource index \d+:|$)", text, re.DOTALL)
    if len(parts) == 0:
        return text
    if [n for n, _ in parts] == ["0"] and index == 0:
        return text
    return next((reason.rstrip("]") + "]" for n, reason in parts if int(n) == index), None)
