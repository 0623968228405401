"""A control plane that serves whatever it is given, good or bad, and notes what clients answer.

State of the world over ADS. Listeners and Clusters go in full sets, as the protocol wants; routes and
endpoints go one to a response, so that an answer is an answer to one resource.
"""

import asyncio
import re
import threading
from dataclasses import dataclass, field
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
    names: dict = field(default_factory=dict)  # by type: the names asked for; None is all
    sent: dict = field(default_factory=dict)  # by type and name: the version
    open: dict = field(default_factory=dict)  # by nonce: the keys that were in the response
    news: asyncio.Event = field(default_factory=asyncio.Event)


class ControlPlane:
    """Serves on a port of 127.0.0.1, in a thread of its own; a context manager."""

    def __init__(self):
        self.port = 0
        self.nodes = []  # each distinct client that came: its Node
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

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self):
        self._server = grpc.aio.server(options=OPTIONS)
        method = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(ADS, {"StreamAggregatedResources": method}),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def _stop(self):
        await self._server.stop(0.2)

    async def _serve(self, requests, context):
        stream = _Stream()
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
                request = discovery_pb2.DiscoveryRequest.FromString(raw)
                if request.HasField("node") and request.node not in self.nodes:
                    self.nodes.append(request.node)
                self._take(stream, request)
                stream.news.set()
        finally:
            stream.news.set()

    def _take(self, stream, request):
        names = list(request.resource_names)
        everything = request.type_url in FULL_SETS and not names
        if everything and stream.names.get(request.type_url) is None:
            names = None
        before = stream.names.get(request.type_url, ()) or ()
        for gone in set(before) - set(names or before):
            stream.sent.pop((request.type_url, gone), None)
        stream.names[request.type_url] = names
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
            if type_url in FULL_SETS:
                # An empty set is an answer as well: Envoy waits for it.
                if new or (names is None and type_url not in stream.sent):
                    stream.sent[type_url] = True
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
        return discovery_pb2.DiscoveryResponse(
            version_info=nonce,
            nonce=nonce,
            type_url=type_url,
            resources=[self._resources[k][1] for k in keys],
        )


def _about(text, index):
    """What a text says of the resource at an index; all of it if it tells none apart; None: ACK."""
    parts = re.findall(r"resource index (\d+): (.*?)(?=; resource index \d+:|$)", text, re.DOTALL)
    if len(parts) == 0:
        return text
    if [n for n, _ in parts] == ["0"] and index == 0:
        return text
    return next((reason.rstrip("]") + "]" for n, reason in parts if int(n) == index), None)
