"""The server: lists, pages and watches over real sockets, with faults as they are asked for."""

import asyncio
import contextlib
import json

from aiohttp import web

from fake_api.objects import Objects

GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
TOO_LARGE = {
    "kind": "Status",
    "code": 504,
    "reason": "Timeout",
    "message": "Timeout: Too large resource version: 999, current: 100",
}


class FakeApi:
    """An API server for Services and EndpointSlices on a loopback port.

    Attributes:
        objects: what it stores; a change is sent to the watches at once.
        gone_inside: 410 comes as an event of a watch, not as its status.
        silent_gone: a watch of a compacted version just ends.
        token: the one that is accepted; None accepts all.
        reviewed: whose a token is that it is asked about, for every audience.
        requests: what was asked, in order: verb, plural, parameters.
        paths: of the same requests.
        drop_next: so many changes are not sent to watches: a lying cache.
        cuts: a list of objects' metadata alone is to be had.
        cut: how many of these were sent.
    """

    def __init__(self):
        self.objects = Objects()
        self.gone_inside = False
        self.silent_gone = False
        self.token = None
        self.reviewed = {}
        self.requests = []
        self.paths = []
        self.drop_next = 0
        self.cuts = True
        self.cut = 0
        self.address = None
        self._dropped = set()
        self._faults = []
        self._watches = set()
        self._runner = None

    # ---- the store ----

    def put(self, *documents):
        for document in documents:
            self._changed(self.objects.put(document))

    def delete(self, *documents):
        for document in documents:
            self._changed(self.objects.delete(document))

    def _changed(self, entry):
        if self.drop_next:
            self.drop_next -= 1
            self._dropped.add(entry[0])
        for watch in self._watches:
            watch.news.set()

    # ---- faults ----

    def skip(self):
        """Don't send what has changed so far on the watches that are open; later ones get it."""
        for watch in self._watches:
            watch.at = self.objects.version

    def forget(self, *documents):
        """These are gone, and no watch will ever tell: only a list can lack them."""
        first = self.objects.version + 1
        self._dropped.update(range(first, first + len(documents) + 1))
        for document in documents:
            self.objects.delete(document)
        self.objects.version += 1
        self.objects.compact()

    def silence(self):
        """The watches that are open stay so, and tell nothing more: half-open connections."""
        for watch in self._watches:
            watch.silent = True

    def fail(self, verb, times=1, *, plural=None, status=500, headers=None, body=b"", act=None):
        """Answer the next requests of that kind so; ``act(request)`` does it in its own way."""
        self._faults.append([verb, plural, times, status, headers or {}, body, act])

    def say(self, raw, plural=None):
        """Send these bytes on every open watch."""
        for watch in self._watches:
            if plural in {None, watch.plural}:
                watch.raw.append(raw)
                watch.news.set()

    def bookmark(self):
        for watch in self._watches:
            line = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": watch.at}}}
            line["object"]["metadata"]["resourceVersion"] = str(self.objects.version)
            watch.after.append(json.dumps(line).encode() + b"\n")
            watch.news.set()

    def end_watches(self):
        """Clean ends."""
        for watch in self._watches:
            watch.end = True
            watch.news.set()

    def cut_watches(self):
        """Connections reset."""
        for watch in self._watches:
            watch.transport.abort()
        self.end_watches()

    @property
    def watches(self):
        return len(self._watches)

    def count(self, verb, plural=None):
        return sum(v == verb and plural in {None, p} for v, p, _ in self.requests)

    # ---- the process ----

    async def start(self):
        app = web.Application()
        for path in ("/api/v1", "/apis/discovery.k8s.io/v1"):
            app.router.add_get(path + "/{plural}", self._handle)
            app.router.add_get(path + "/namespaces/{namespace}/{plural}", self._handle)
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review)
        # Zero would be no limit.
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self._runner.setup()
        port = int(self.address.rpartition(":")[2]) if self.address else 0
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self):
        """Refuse connections, and reset those that there are."""
        self.cut_watches()
        await self._runner.cleanup()

    # ---- requests ----

    async def _handle(self, request):
        plural = request.match_info["plural"]
        verb = "watch" if request.query.get("watch") else "list"
        self.requests.append((verb, plural, dict(request.query)))
        self.paths.append(request.path)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401, text='{"kind":"Status","reason":"Unauthorized"}')
        fault = self._fault(verb, plural)
        if fault is not None:
            _, _, _, status, headers, body, act = fault
            if act is not None:
                return await act(request)
            return web.Response(status=status, headers=headers, body=body)
        if verb == "list":
            return self._list(request, plural)
        return await self._watch(request, plural)

    async def _review(self, request):
        body = await request.json()
        spec = body["spec"]
        user = self.reviewed.get(spec["token"])
        status = {"authenticated": user is not None}
        if user:
            status |= {"user": {"username": user}, "audiences": spec["audiences"]}
        return web.json_response({**body, "status": status}, status=201)

    def _fault(self, verb, plural):
        for fault in self._faults:
            if fault[0] == verb and fault[1] in {None, plural} and fault[2]:
                fault[2] -= 1
                return fault
        return None

    def _list(self, request, plural):
        query = request.query
        offset, version = 0, self.objects.version
        if query.get("continue"):
            version, offset = map(int, query["continue"].split(":"))
        elif query.get("resourceVersionMatch") == "Exact":
            version = int(query["resourceVersion"])
        if version < self.objects.oldest:
            return web.json_response(GONE, status=410)
        namespace = request.match_info.get("namespace")
        items = [
            {k: v for k, v in document.items() if k not in {"kind", "apiVersion"}}
            for (of, _), document in sorted(self.objects.at(plural, version).items())
            if namespace in {None, of} and _matches(query.get("labelSelector"), document)
        ]
        if self.cuts and _wants_metadata(request.headers["Accept"]):
            self.cut += 1
            items = [{"metadata": item["metadata"]} for item in items]
        limit = int(query["limit"])
        end = offset + limit
        token = f"{version}:{end}" if end < len(items) else ""
        meta = {"resourceVersion": str(version), "continue": token}
        return web.json_response({"metadata": meta, "items": items[offset:end] or None})

    async def _watch(self, request, plural):
        version = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if version < self.objects.oldest and not (self.gone_inside or self.silent_gone):
            return web.json_response(GONE, status=410)
        await response.prepare(request)
        if version < self.objects.oldest:
            if not self.silent_gone:
                await response.write(_line("ERROR", GONE))
            return response
        if version > self.objects.version:
            await response.write(_line("ERROR", TOO_LARGE))
            return response
        watch = _Watch(plural, request.match_info.get("namespace"), version, request.transport)
        self._watches.add(watch)
        try:
            with contextlib.suppress(ConnectionError):
                while not watch.end:
                    await self._send(watch, response)
                    await watch.news.wait()
                    watch.news.clear()
                await self._send(watch, response)
        finally:
            self._watches.discard(watch)
        return response

    async def _send(self, watch, response):
        if watch.silent:
            return
        for version, _, kind, document in self.objects.since(watch.plural, watch.at):
            watch.at = version
            if version in self._dropped:
                continue
            if watch.namespace in {None, document["metadata"]["namespace"]}:
                await response.write(_line(kind, document))
        watch.at = max(watch.at, self.objects.version)
        for queue in (watch.raw, watch.after):
            while queue:
                await response.write(queue.pop(0))


class _Watch:
    """One open watch."""

    def __init__(self, plural, namespace, at, transport):
        self.plural = plural
        self.namespace = namespace
        self.at = at
        self.transport = transport
        self.news = asyncio.Event()
        self.raw = []
        self.after = []
        self.silent = False
        self.end = False


def _line(kind, obj):
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _wants_metadata(accept):
    """Whether the first type that the client would like is the list of metadata alone."""
    _, *params = accept.partition(",")[0].split(";")
    return {"as=PartialObjectMetadataList", "g=meta.k8s.io", "v=v1"} <= set(params)


def _matches(selector, document):
    labels = document["metadata"].get("labels") or {}
    pairs = (part.split("=") for part in selector.split(",")) if selector else ()
    return all(labels.get(key) == value for key, value in pairs)
