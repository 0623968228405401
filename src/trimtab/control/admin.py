"""The admin pages: health, metrics and what the control plane knows. Read only.

A browser that was tricked into asking (DNS rebinding) names the attacker's host, so requests for
hosts that are neither loopback, nor an IP address, nor configured are refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from trimtab.control import long_pages, metrics
from trimtab.control.admin_connections import Doorkeeper
from trimtab.control.admin_gate import AdminGate
from trimtab.control.admin_log import http_log
from trimtab.control.config import Address
from trimtab.control.explain import explain
from trimtab.control.listening import on_every_interface
from trimtab.control.server import XdsServer
from trimtab.control.store import Store
from trimtab.control.stream import Stream
from trimtab.control.tls import Certificate
from trimtab.control.views import cluster_view, sighting_view, source_view
from trimtab.errors import TrimtabError
from trimtab.telemetry import Counters, prometheus_text
from trimtab.xds.zone_views import ServiceName

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_WHO = HTTPStatus.UNAUTHORIZED
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Admin:
    """The admin server of one control plane.

    Args:
        store: what is known.
        server: who is connected.
        counters: what ``/metrics`` shows.
        clock: loop time [s].
        hosts: further names that it may be asked by.
        failed: the background job that has failed, "" if none; with one, it is not healthy.
        dropped_lines: how many lines of the log were lost until now.
        missing: the right that is missing to know clients, "" if none; without it, it is not ready.
        gate: who may read; None: everybody who reaches it.
        certificate: with a gate, since tokens are sent over TLS only.
    """

    def __init__(
        self,
        store: Store,
        server: XdsServer,
        counters: Counters,
        *,
        clock: Callable[[], float],
        hosts: tuple[str, ...] = (),
        failed: Callable[[], str] = str,
        dropped_lines: Callable[[], int] = int,
        missing: Callable[[], str] = str,
        gate: AdminGate | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._store = store
        self._server = server
        self._counters = counters
        self._clock = clock
        self._hosts = frozenset(h.lower() for h in (*hosts, "localhost"))
        self.gate = gate
        self._failed = failed
        self._dropped_lines = dropped_lines
        self._missing = missing
        self._tls = certificate.context() if gate and certificate else None
        app = web.Application(middlewares=[self._check_host, self._check_reader, _errors_as_json])
        app.router.add_get("/", self._index)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/v1/clusters", self._clusters)
        app.router.add_get("/api/v1/clients", self._clients)
        app.router.add_get("/api/v1/why", self._why)
        app.router.add_get("/api/v1/load", self._load)
        self._app = app
        self._runner = web.AppRunner(app, access_log=None, logger=http_log(), shutdown_timeout=1.0)
        self._listening: asyncio.Server | None = None

    async def start(self, address: Address) -> Address:
        """Listen, and say where (port 0 becomes a real one).

        Raises:
            TrimtabError: the address can't be had.
        """
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101 - for the type checker: it was set up just now

        def refused() -> None:
            self._counters.add(metrics.ADMIN_REFUSED, "connections")

        def door() -> Doorkeeper:
            return Doorkeeper(server, refused)

        loop = asyncio.get_running_loop()
        try:
            self._listening = await (
                loop.create_server(door, address.host, address.port, ssl=self._tls)
                if address.host
                else loop.create_server(door, sock=on_every_interface(address.port), ssl=self._tls)
            )
        except OSError as error:
            raise TrimtabError(
                f"--admin {address}: cannot listen there: {error.strerror or error}. Choose "
                f"another (port 0: any free one)"
            ) from None
        return Address(address.host, self._listening.sockets[0].getsockname()[1])

    @property
    def scheme(self) -> str:
        """``https`` where there is a gate, else ``http``."""
        return "https" if self._tls else "http"

    async def stop(self) -> None:
        """Stop listening and end what is under way."""
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    def not_ready(self) -> str:
        """Why no xDS is answered, "" if it is."""
        if self._server.draining:
            return "draining: this process is shutting down"
        waiting = self._store.waiting_for()
        if not self._store.synced.is_set():
            reason = f"waiting for the first sync of: {', '.join(waiting) or 'all sources'}"
            lost = [
                f"{s.name}: {c.reason}"
                for s in self._store.sources
                if (c := s.contact()) is not None and c.reason
            ]
            if lost:
                return f"{reason}; {'; '.join(lost)}"
            latest = next((s for s in self._store.problems if s.source in waiting), None)
            return f"{reason}; rejected last: {latest.problem}" if latest else reason
        return self._missing()

    async def _index(self, request: web.Request) -> web.Response:
        paths = sorted({r.resource.canonical for r in request.app.router.routes() if r.resource})
        return web.json_response({"name": "trimtab", "paths": paths})

    async def _healthz(self, _request: web.Request) -> web.Response:
        reason = self._failed()
        if reason:
            return web.json_response({"status": "failed", "reason": reason}, status=503)
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self.not_ready()
        if reason:
            return web.json_response({"status": "not ready", "reason": reason}, status=503)
        return web.json_response({"status": "ready"})

    async def _metrics(self, _request: web.Request) -> web.Response:
        self._store.measure()
        self._server.measure()
        self._counters.set(metrics.READY, int(not self.not_ready()))
        self._counters.set(metrics.LOG_DROPPED, self._dropped_lines())
        text = prometheus_text(self._counters)
        return web.Response(body=text.encode(), headers={"Content-Type": _PROMETHEUS})

    async def _clusters(self, request: web.Request) -> web.StreamResponse:
        now = self._clock()
        catalog = self._store.catalog
        name = request.query.get("name")
        if name is None:
            snapshots = [s for _, s in sorted(catalog.clusters().items())]
        else:
            cluster = catalog.names.resolve(name)
            if cluster is None:
                raise web.HTTPNotFound(text=self._unknown(name))
            snapshots = [catalog.clusters()[cluster]]
        before = {
            "synced": self._store.synced.is_set(),
            "sources": [source_view(s, now) for s in self._store.sources],
            "problems": [sighting_view(s, now) for s in self._store.problems],
        }
        found = ((json.dumps(cluster_view(self._store, s, now)),) for s in snapshots)
        return await long_pages.send(request, long_pages.with_list(before, "clusters", found))

    async def _why(self, request: web.Request) -> web.StreamResponse:
        now = self._clock()
        name = request.query.get("name", "")
        if not name:
            raise web.HTTPBadRequest(text="which name? Ask for /api/v1/why?name=NAME&zone=ZONE")
        catalog = self._store.catalog
        cluster = catalog.names.resolve(name)
        if cluster is None:
            raise web.HTTPNotFound(text=self._unknown(name))
        snapshot = catalog.clusters()[cluster]
        service = None
        if said := request.query.get("service", ""):
            service = ServiceName.parse(said, "")
            if service is None:
                raise web.HTTPBadRequest(
                    text=f"service {said!r}: say SERVICE.NAMESPACE, such as front.shop"
                )
        pods = catalog.ready_pods(service) if service else {}
        view = cluster_view(self._store, snapshot, now)
        before = {
            "asked": name,
            "cluster": cluster,
            **{k: view[k] for k in ("aliases", "version", "age_seconds", "counts")},
            **explain(snapshot, request.query.get("zone", ""), service, pods),
            "synced": self._store.synced.is_set(),
            "sources": [source_view(s, now) for s in self._store.sources],
        }
        subscribers = (
            (s, found) for s in self._streams() if (found := s.session.statuses_of(cluster))
        )
        pieces = long_pages.with_list(before, "subscribers", long_pages.clients(subscribers, now))
        return await long_pages.send(request, pieces)

    def _unknown(self, name: str) -> str:
        near = ", ".join(self._store.catalog.names.near(name))
        hint = (
            f"similar names: {near}"
            if near
            else "`trimtab endpoints` and /api/v1/clusters list all"
        )
        return f"no cluster answers to {name!r:.200}; {hint}"

    async def _clients(self, request: web.Request) -> web.StreamResponse:
        node = request.query.get("node")
        asked = (
            (s, s.session.statuses())
            for s in self._streams()
            if node in (None, s.session.client.node_id if s.session.client else "")
        )
        found = long_pages.clients(asked, self._clock())
        return await long_pages.send(request, long_pages.with_list({}, "clients", found))

    def _streams(self) -> list[Stream]:
        return sorted(self._server.streams, key=lambda s: s.number)

    async def _load(self, _request: web.Request) -> web.Response:
        return _json({"clusters": self._server.loads.view()})

    @web.middleware
    async def _check_host(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        host = _host_name(request.headers.get("Host", ""))
        if host not in self._hosts and not _is_ip(host):
            text = (
                f"Host {host!r:.100} is not allowed; ask for an IP address or localhost, or name "
                f"the host under admin_hosts in the file given to --config"
            )
            return _json({"error": text}, status=403)
        return await handler(request)

    @web.middleware
    async def _check_reader(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if self.gate is not None:
            said = request.headers.get("Authorization", "")
            if refusal := await self.gate.refusal(request.path, said, request.remote or ""):
                self._counters.add(metrics.ADMIN_REFUSED, refusal.reason)
                asked = {"WWW-Authenticate": "Bearer"} if refusal.status == _WHO else {}
                return _json({"error": refusal.text}, status=refusal.status, headers=asked)
        return await handler(request)


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        headers = (
            {"Allow": "GET, HEAD"} if error.status == web.HTTPMethodNotAllowed.status_code else {}
        )
        return _json({"error": error.text or error.reason}, status=error.status, headers=headers)


def _json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=json.dumps(value).encode(),
        status=status,
        headers={
            **long_pages.JSON,
            **(headers or {}),
        },
    )


def _host_name(header: str) -> str:
    """The name in a Host header, without port and brackets."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
