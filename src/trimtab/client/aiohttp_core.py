"""The aiohttp door: client middleware, which is aiohttp's own place for what a request goes through.

A request's URL is pointed at the endpoint; its Host header, the certificate's name and the response's
URL stay the service's. Connections are pooled by aiohttp, which keys its pool by address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import ClientRequest, ClientResponse
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.payload import BytesPayload
from yarl import URL

from trimtab.balancer import Node, Pick
from trimtab.client.channel_spec import BootstrapSource, Endpoints
from trimtab.client.http_attempts import Broke, HttpCall, outcome_of_http, report_of_http
from trimtab.client.http_cluster import HttpCluster
from trimtab.client.http_clusters import HttpClusters, HttpFallbacks
from trimtab.client.http_waiting import pick_soon
from trimtab.client.request_key import key_of
from trimtab.errors import NoEndpoints
from trimtab.load_report import LoadReport
from trimtab.model import Locality, PolicyConfig
from trimtab.policies import Outcome

_SWITCHING = 101
_TLS = frozenset({"https", "wss"})
# Where a body never reached the server, since no connection came about.
_UNREACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Unavailable(aiohttp.ClientConnectionError):
    """No endpoint of the service can be asked; the text says why."""


class Middleware:
    """Give it to ``aiohttp.ClientSession(middlewares=[...])``. One serves several sessions.

    Close it when the sessions are closed (it is an async context manager as well): then it follows
    no endpoints any more. Set ``aiohttp.ClientTimeout(sock_connect=1)`` on the session, so that an
    endpoint that nobody answers for costs a second and not aiohttp's 30.

    Args:
        hosts: whose ``http://`` and ``https://`` URLs name clusters: ``orders.shop:8080``,
            ``orders.shop`` (all ports) or ``*.shop``. All other URLs go where they say, as does
            whatever uses a proxy. (aiohttp refuses ``xds://`` before middleware sees it.)
        policy: a policy's name or configuration; None follows the control plane.
        endpoints: fixed lists of endpoints by cluster, ``{"orders.shop:8080": ["10.0.0.1:8080"]}``;
            no control plane is asked for these.
        bootstrap: as for ``trimtab.insecure_channel``.
        locality: as for ``trimtab.insecure_channel``.
        labels: as for ``trimtab.insecure_channel``.
        fallback: whom to ask while there is nobody: a ``trimtab.LastGood`` for all clusters, or what
            ``trimtab.insecure_channel`` takes, by cluster: ``{"orders.shop:8080": [...]}``.
        patience_s: the longest wait for the first endpoints of a cluster [s].

    Raises:
        ConfigError: a wrong host; with the first request to a cluster, a wrong policy, endpoint or
            bootstrap.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        *,
        policy: str | PolicyConfig | None = None,
        endpoints: Mapping[str, Endpoints] | None = None,
        bootstrap: BootstrapSource | None = None,
        locality: str | Locality | None = None,
        labels: Mapping[str, str] | None = None,
        fallback: HttpFallbacks | None = None,
        patience_s: float = 5.0,
    ) -> None:
        self._patience_s = patience_s
        self._clusters = HttpClusters(
            _address,
            hosts,
            policy=policy,
            endpoints=endpoints,
            bootstrap=bootstrap,
            locality=locality,
            labels=labels,
            fallback=fallback,
        )

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Called by aiohttp.

        Raises:
            Unavailable: no endpoint can be asked.
            aiohttp.ClientError: aiohttp's own, of the last attempt.
        """
        url = request.url
        cluster = self._clusters.of(url.scheme, url.host or "", url.explicit_port)
        if cluster is None or request.proxy is not None:
            return await handler(request)
        if url.scheme in _TLS and request.server_hostname is None:
            request.server_hostname = url.raw_host
        body = request.body
        call = HttpCall(
            cluster.budget,
            request.method,
            repeatable=not body or isinstance(body, BytesPayload),
            balancer=cluster.balancer,
            observer=cluster.observer,
        )
        try:
            return await self._send(cluster, call, request, handler)
        finally:
            request.url = url

    async def _send(
        self,
        cluster: HttpCluster,
        call: HttpCall,
        request: ClientRequest,
        handler: ClientHandlerType,
    ) -> ClientResponse:
        url = request.url
        while True:
            pick = await self._pick(cluster, request)
            host, port = pick.node.transport
            request.url = _at(url, host, port)
            call.leaves(pick.node.endpoint)
            try:
                response = await handler(request)
            except aiohttp.ClientError as error:
                if not await _after(cluster, call, pick, request, error):
                    raise
                continue
            except TimeoutError:
                pick.finish(Outcome.TIMEOUT)
                call.after_break(Broke.TIMEOUT)
                raise
            except BaseException:
                pick.finish(Outcome.CANCELLED)
                call.given_up()
                raise
            cluster.answered(pick.node)
            _hold(cluster, pick, response)
            if not call.after_answer(response.status):
                return response
            response.release()

    async def _pick(self, cluster: HttpCluster, request: ClientRequest) -> Pick:
        name = cluster.balancer.hash_key
        key = None if name is None else key_of(request.headers.items(), name)
        try:
            return await pick_soon(cluster, key, self._patience_s)
        except NoEndpoints as error:
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        """Follow no endpoints any more. Connections are the sessions'."""
        for cluster in self._clusters:
            cluster.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _address(node: Node) -> tuple[str, int]:
    return node.endpoint.address, node.endpoint.port


def _at(url: URL, host: str, port: int) -> URL:
    """The same path elsewhere, as it was encoded."""
    return URL.build(
        scheme=url.scheme,
        host=host,
        port=port,
        path=url.raw_path,
        query_string=url.raw_query_string,
        encoded=True,
    )


async def _after(
    cluster: HttpCluster, call: HttpCall, pick: Pick, request: ClientRequest, error: Exception
) -> bool:
    """End a broken attempt; whether to go on with another."""
    if isinstance(error, aiohttp.ConnectionTimeoutError) and _pool_is_full(request):
        broke = Broke.LOCAL  # it waited for a slot and asked nobody
    elif isinstance(error, _UNREACHED):
        broke = Broke.UNREACHED
    elif isinstance(error, aiohttp.ServerTimeoutError):
        broke = Broke.TIMEOUT
    elif isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
        broke = Broke.LOST
    else:
        broke = Broke.FAULTY if isinstance(error, aiohttp.ClientResponseError) else Broke.LOCAL
    pick.finish(broke.outcome)
    if broke in {Broke.UNREACHED, Broke.LOST}:
        cluster.rest(pick.node)
    again = call.after_break(broke)
    if again:
        await request.close()  # the body's writer has settled
    return again


def _pool_is_full(request: ClientRequest) -> bool:
    connector = request.session.connector
    if connector is None or not connector.limit:
        return False
    # aiohttp has no public count of connections in use; without this one the endpoint is blamed.
    return len(getattr(connector, "_acquired", ())) >= connector.limit


def _hold(cluster: HttpCluster, pick: Pick, response: ClientResponse) -> None:
    """Let the request count until its body ends, is given up, or is forgotten."""
    outcome = outcome_of_http(response.status)
    report = report_of_http(response.headers, cluster.wall)
    connection = response.connection
    if connection is None or response.status == _SWITCHING:
        # All of the body is here; or there is none, and what follows is another protocol.
        pick.finish(outcome, report)
    else:
        connection.add_callback(_Claim(pick, outcome, report, response.content))


class _Claim:
    """What a connection calls when it has no more use for a response."""

    __slots__ = ("_content", "_outcome", "_pick", "_report")

    def __init__(
        self, pick: Pick, outcome: Outcome, report: LoadReport | None, content: aiohttp.StreamReader
    ) -> None:
        self._pick = pick
        self._outcome = outcome
        self._report = report
        self._content = content

    def __call__(self) -> None:
        broken = isinstance(self._content.exception(), aiohttp.ClientPayloadError)
        self._pick.finish(Outcome.FAILURE if broken else self._outcome, self._report)

    def __del__(self) -> None:
        if self._pick.open:  # dropped unread: the caller lost interest
            self._pick.drop()
