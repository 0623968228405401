"""The aiohttp door: client middleware, which is aiohttp's own place for what a request goes through.

A request's URL is pointed at the endpoint; its Host header, the certificate's name and the response's
URL stay the service's. Connections are pooled by aiohttp, which keys its pool by address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import ClientRequest, ClientResponse
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.payload import BytesPayload

from trimtab.attempt import Retry
from trimtab.balancer import Node, Pick
from trimtab.client.afterwards import end_given_up
from trimtab.client.aiohttp_bodies import count
from trimtab.client.aiohttp_errors import Unavailable, explained, is_of_the_body
from trimtab.client.aiohttp_errors import broke as broke_of
from trimtab.client.aiohttp_repeating import give_up, given_up, refuse_repetition
from trimtab.client.aiohttp_steering import expect_anew, own, steered, told_of
from trimtab.client.channel_spec import BootstrapSource, Endpoints
from trimtab.client.http_attempts import CLIENT_ERROR, Broke, HttpCall, outcome_of_http
from trimtab.client.http_cluster import HttpCluster, LetGo
from trimtab.client.http_clusters import TLS, HttpClusters, HttpFallbacks
from trimtab.client.http_hedging import HedgedOnLoop, Tried
from trimtab.client.http_waiting import pick_soon
from trimtab.client.observing import End
from trimtab.client.request_key import KeyFunction, key_of
from trimtab.client.request_labels import wanted_labels
from trimtab.errors import ConfigError, NoEndpoints
from trimtab.model import Locality, PolicyConfig, is_number
from trimtab.policies import Outcome

_SUCCESS = Outcome.SUCCESS  # a global is found quicker than an enumeration's member


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
        retry: when idempotent requests are sent again; None: once, after 503 or a connection that broke.
        retries: the same by method, ``{"POST": trimtab.Retry(on=[503])}``, before ``retry``; a method
            that isn't idempotent is sent again only if it is named here.
        hash_key: a function of the HTTP method, the headers and the request, which gives the key of a request
            or None; asked where the policy wants keys (``ring_hash``).
        idle_s: services that were not called for so long [s] are followed no more as soon as another one is
            called for the first time; None: a service that was called once is followed for good.
        patience_s: the longest wait for the first endpoints of a cluster [s].

    Raises:
        ConfigError: a wrong argument; with the first request to a cluster, a wrong or missing bootstrap of
            the environment's.
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
        retry: Retry | None = None,
        retries: Mapping[str, Retry] | None = None,
        hash_key: KeyFunction | None = None,
        idle_s: float | None = None,
        patience_s: float = 5.0,
    ) -> None:
        if not is_number(patience_s) or not patience_s >= 0.0:
            raise ConfigError(f"patience_s={patience_s!r} is not a number of seconds from 0")
        self._patience_s = float(patience_s)
        self._clusters = HttpClusters(
            _address,
            hosts,
            policy=policy,
            endpoints=endpoints,
            bootstrap=bootstrap,
            locality=locality,
            labels=labels,
            fallback=fallback,
            retry=retry,
            retries=retries,
            hash_key=hash_key,
            idle_s=idle_s,
            closes=False,  # the session's connector has the connections
        )

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Called by aiohttp.

        Raises:
            Unavailable: no endpoint can be asked.
            aiohttp.ClientError: aiohttp's own, of the last attempt.
        """
        url = request.url
        if request.proxy is not None:
            return await handler(request)
        cluster = self._clusters.of(url.scheme, url.host or "", url.explicit_port)
        if cluster is None:
            return await handler(request)
        earlier = given_up()
        if earlier is not None:
            refuse_repetition(request, earlier)
        if url.scheme in TLS and request.server_hostname is None:
            request.server_hostname = url.raw_host
        body = request.body
        if not cluster.is_plain(request.method):
            return await self._further(
                cluster, self._call(cluster, request, body), request, handler
            )
        # Nearly all requests: what is only of use when one doesn't end well is made when it doesn't. A function
        # that is called after the network was waited for costs several times what a loop over it shows.
        try:
            pick = cluster.pick(None, wanted_labels())
        except NoEndpoints:
            return await self._further(
                cluster, self._call(cluster, request, body), request, handler
            )
        node = pick.node
        host, port = node.transport
        request.url = steered(url, host, port)
        try:
            response = await handler(request)
        except BaseException as error:  # noqa: BLE001 - what is the caller's is raised again
            request.url = url
            call = self._call(cluster, request, body)
            tried = await self._broken(cluster, call, pick, call.leaves(pick), request, error)
        else:
            request.url = url
            if response.status < CLIENT_ERROR:
                cluster.attempts.budget.earn()
                count(pick, response, _SUCCESS, cluster.answered(node, 200, response.headers))
                return told_of(response, url)
            call = self._call(cluster, request, body)
            tried = self._answered(cluster, call, pick, call.leaves(pick), response)
        return await self._further(cluster, call, request, handler, tried)

    async def _further(
        self,
        cluster: HttpCluster,
        call: HttpCall,
        request: ClientRequest,
        handler: ClientHandlerType,
        tried: Tried | None = None,
    ) -> ClientResponse:
        """All attempts, or those that follow the first one: ``tried``."""
        try:
            if call.hedges and tried is None:
                return await self._hedged(cluster, call, request, handler)
            return await self._from(cluster, call, request, handler, tried)
        except LetGo:
            url = request.url
            self._clusters.anew(url.scheme, url.host or "", url.explicit_port)
            return await self(request, handler)
        except aiohttp.ClientError as error:
            give_up(request, error)
            raise

    def _call(self, cluster: HttpCluster, request: ClientRequest, body: Any) -> HttpCall:
        repeatable = not body or isinstance(body, BytesPayload)
        timeout = request.session.timeout  # a request's own is nowhere to be seen
        return HttpCall(
            cluster.attempts,
            request.method,
            repeatable=repeatable,
            patience=timeout.total,
            connect_s=min(filter(None, (timeout.sock_connect, timeout.connect)), default=None),
        )

    async def _hedged(
        self,
        cluster: HttpCluster,
        call: HttpCall,
        request: ClientRequest,
        handler: ClientHandlerType,
    ) -> ClientResponse:
        def attempt() -> Coroutine[Any, Any, Tried]:
            return self._attempt(cluster, call, own(request), handler)

        hedged = HedgedOnLoop(call, attempt, _discard, cluster.clock)
        return told_of(await hedged.to_its_end(), request.url)

    async def _from(
        self,
        cluster: HttpCluster,
        call: HttpCall,
        request: ClientRequest,
        handler: ClientHandlerType,
        tried: Tried | None,
    ) -> ClientResponse:
        """Attempts one after another, the first of which may be behind it: ``tried``."""
        url = request.url
        try:
            while True:
                if tried is None:
                    tried = await self._attempt(cluster, call, request, handler)
                if tried.ended is None:
                    return told_of(tried.response, url)
                pause = call.after(tried.ended)
                if pause is None:
                    return told_of(tried.result(), url)
                if tried.response is not None:
                    tried.response.release()
                if pause:
                    await asyncio.sleep(pause)  # noqa: TID251 - the pause before the next attempt
                tried = None
        finally:
            request.url = url

    async def _attempt(
        self,
        cluster: HttpCluster,
        call: HttpCall,
        request: ClientRequest,
        handler: ClientHandlerType,
    ) -> Tried:
        key = None if cluster.balancer.hash_key is None else _key(cluster, request)
        try:
            pick = cluster.pick(key, wanted_labels(), call.been)
        except NoEndpoints:
            pick = await self._pick_later(cluster, call, key)
        host, port = pick.node.transport
        request.url = steered(request.url, host, port)
        end = call.leaves(pick)
        expect_anew(request)
        limit = None if call.attempt_s is None else asyncio.timeout(call.attempt_s)
        try:
            if limit is None:
                response = await handler(request)
            else:
                async with limit:
                    response = await handler(request)
        except BaseException as error:  # noqa: BLE001 - what is the caller's is raised again
            own_time = limit is not None and limit.expired()
            return await self._broken(cluster, call, pick, end, request, error, own_time=own_time)
        return self._answered(cluster, call, pick, end, response)

    async def _broken(
        self, cluster: HttpCluster, call: HttpCall, pick: Pick, end: End | None,
        request: ClientRequest, error: BaseException, *, own_time: bool = False,
    ) -> Tried:  # fmt: skip
        """End a broken attempt.

        Raises:
            BaseException: the error, if it is the caller's own doing.
        """
        if isinstance(error, aiohttp.ClientError):
            broke = broke_of(request, error, pick.node.transport)
            pick.finish(broke.outcome)
            if broke in {Broke.UNREACHED, Broke.LOST}:
                cluster.rest(pick.node)
            await request.close()  # the body's writer has settled
            return Tried(None, explained(error, cluster, pick.node), call.broken(broke, end))
        if isinstance(error, TimeoutError) and not is_of_the_body(error):
            pick.finish(Outcome.TIMEOUT)
            ended = call.broken(Broke.TIMEOUT, end, own_time=own_time)
            if not own_time:
                return Tried(None, explained(error, cluster, pick.node), ended)
            text = cluster.explain(pick.node, f"no answer within {call.attempt_s:g} s")
            return Tried(None, aiohttp.ServerTimeoutError(text), ended)
        end_given_up(pick, end, error)
        raise error

    def _answered(
        self,
        cluster: HttpCluster,
        call: HttpCall,
        pick: Pick,
        end: End | None,
        response: ClientResponse,
    ) -> Tried:
        status = response.status
        report = cluster.answered(pick.node, status, response.headers)
        count(pick, response, outcome_of_http(status), report)
        return Tried(response, None, call.answered(status, report, end))

    async def _pick_later(self, cluster: HttpCluster, call: HttpCall, key: str | None) -> Pick:
        try:
            return await pick_soon(cluster, key, self._patience_s, call.been)
        except LetGo:
            raise
        except NoEndpoints as error:
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        """Follow no endpoints any more, unless there is another request. Connections are the sessions'."""
        for cluster in self._clusters.taken():
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


def _key(cluster: HttpCluster, request: ClientRequest) -> str | None:
    name = cluster.balancer.hash_key or ""
    headers = request.headers.items()
    return key_of(headers, name, cluster.key_function, request.method, request)


def _address(node: Node) -> tuple[str, int]:
    return node.endpoint.address, node.endpoint.port


async def _discard(response: ClientResponse) -> None:
    response.close()
