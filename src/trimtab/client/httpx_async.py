"""The httpx door on an event loop, for httpx2 and httpx alike; see ``httpx_core``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Never

from trimtab.balancer import Pick
from trimtab.client.http2_connections import AsyncBackend
from trimtab.client.http_attempts import CLIENT_ERROR, HttpCall
from trimtab.client.http_cluster import HttpCluster, LetGo, Unknown
from trimtab.client.http_discard import let_go_soon
from trimtab.client.http_hedging import HedgedOnLoop, Tried
from trimtab.client.http_instrumented import is_wrapped, through
from trimtab.client.http_patched import through_async
from trimtab.client.http_pool_slots import free_slots
from trimtab.client.http_waiting import pick_soon
from trimtab.client.httpx_core import CONNECT_S, Core, patience
from trimtab.client.httpx_steering import Steered
from trimtab.client.request_labels import wanted_labels
from trimtab.errors import NoEndpoints


async def _discard_soon(response: Any) -> None:
    await response.stream.aclose()


class AsyncCore(Core):
    """The transport on an event loop."""

    _backend = AsyncBackend
    _sends = "handle_async_request"

    def __enter__(self) -> Never:
        raise self._other_kind("Client", "Transport")

    def handle_request(self, _request: Any) -> Never:
        """Say which class a blocking client takes."""
        raise self._other_kind("Client", "Transport")

    def handle_async_request(self, request: Any) -> Coroutine[Any, Any, Any]:
        """Send a request to an endpoint of its cluster, or where it says if it names none."""
        patched = self._inner.handle_async_request
        if patched is not self._own:
            return self._patched(patched, request)
        url = request.url
        cluster = self._clusters.of(url.scheme, url.host, url.port)
        return self._elsewhere(request) if cluster is None else self._send(cluster, request)

    async def _elsewhere(self, request: Any) -> Any:
        try:
            return await self._others.handle_async_request(request)
        except AssertionError as error:
            self._refuse_misplaced(request, error)
            raise

    async def _patched(self, patched: Any, request: Any) -> Any:
        """Send it where others have put something around the library's own function, or in its place."""

        async def send(request: Any) -> Any:
            url = request.url
            cluster = self._clusters.of(url.scheme, url.host, url.port)
            sent = self._told(request) if cluster is None else self._send(cluster, request)
            return await sent

        url = request.url
        if not self._clusters.names(url.scheme, url.host, url.port):
            self._clusters.of(url.scheme, url.host, url.port)  # raises what is wrong with it
            return await self._elsewhere(request)
        if is_wrapped(patched, self._own):
            return await through(patched, self, send, request)
        return await through_async(self._inner, self._library, send, request)

    def _told(self, request: Any) -> Coroutine[Any, Any, Any]:
        """Send elsewhere what was sent there by what is around the library's function, past that."""
        own = self._own
        return self._elsewhere(request) if own is None else own(self._others, request)

    async def _send(self, cluster: HttpCluster, request: Any) -> Any:
        if cluster.left:
            for pool in cluster.leavers():
                await let_go_soon(pool, self._inner.aclose)
        if not cluster.is_plain(request.method):
            return await self._further(cluster, self._call(cluster, request), request)
        # Nearly all requests: what is only of use when one doesn't end well is made when it doesn't.
        try:
            pick = cluster.pick(None, wanted_labels())
        except NoEndpoints:
            return await self._further(cluster, self._call(cluster, request), request)
        pool = pick.node.transport
        steered = Steered(request, pick.node, None if cluster.alone else CONNECT_S)
        try:
            response = await pool.handle_async_request(steered)
        except self._library.TransportError as error:
            call = self._call(cluster, request)
            end = call.leaves(pick)
            tried = self._broken(cluster, call, pick, end, request, error, pool)
        except BaseException as error:
            self._give_up(request, pick, None, error)
            await free_slots(pool)
            raise
        else:
            if response.status_code < CLIENT_ERROR:
                return self._good(cluster, pick, response)
            call = self._call(cluster, request)
            tried = self._answered(cluster, call, pick, call.leaves(pick), response)
        return await self._further(cluster, call, request, tried)

    async def _further(
        self, cluster: HttpCluster, call: HttpCall, request: Any, tried: Tried | None = None
    ) -> Any:
        """All attempts, or those that follow the first one: ``tried``."""
        try:
            if call.hedges and tried is None:
                attempt = partial(self._attempt, cluster, call, request)
                return await HedgedOnLoop(call, attempt, _discard_soon, cluster.clock).to_its_end()
            return await self._from(cluster, call, request, tried)
        except LetGo:
            return await self._send(self._anew(request), request)

    async def _from(
        self, cluster: HttpCluster, call: HttpCall, request: Any, tried: Tried | None
    ) -> Any:
        """Attempts one after another, the first of which may be behind it: ``tried``."""
        while True:
            if tried is None:
                tried = await self._attempt(cluster, call, request)
            if tried.ended is None:
                return tried.response
            pause = call.after(tried.ended)
            if pause is None:
                return tried.result()
            if tried.response is not None:
                await let_go_soon(tried.response, _discard_soon)
            if pause:
                await asyncio.sleep(pause)  # noqa: TID251 - the pause before the next attempt
            tried = None

    async def _attempt(self, cluster: HttpCluster, call: HttpCall, request: Any) -> Tried:
        name = cluster.balancer.hash_key
        key = None if name is None else self._key(cluster, name, request)
        try:
            pick = cluster.pick(key, wanted_labels(), call.been)
        except NoEndpoints:
            pick = await self._pick_later(cluster, call, request, key)
        end = call.leaves(pick)
        pool = pick.node.transport
        steered = Steered(request, pick.node, None if cluster.alone else CONNECT_S)
        limit = None if call.attempt_s is None else asyncio.timeout(call.attempt_s)
        try:
            if limit is None:
                response = await pool.handle_async_request(steered)
            else:
                async with limit:
                    response = await pool.handle_async_request(steered)
        except self._library.TransportError as error:
            return self._broken(cluster, call, pick, end, request, error, pool)
        except BaseException as error:
            own_time = limit is not None and limit.expired() and isinstance(error, TimeoutError)
            if not own_time:  # a body may raise anything, a ``TimeoutError`` too
                self._give_up(request, pick, end, error)
                await free_slots(pool)
                raise
            late = self._library.ReadTimeout(f"no answer within {call.attempt_s:g} s")
            tried = self._broken(cluster, call, pick, end, request, late, pool, own_time=True)
            await free_slots(pool)
            return tried
        return self._answered(cluster, call, pick, end, response)

    async def _pick_later(
        self, cluster: HttpCluster, call: HttpCall, request: Any, key: str | None
    ) -> Pick:
        try:
            return await pick_soon(cluster, key, patience(request), call.been)
        except LetGo:
            raise
        except Unknown as error:
            raise self._timed_out(request, error) from error
        except NoEndpoints as error:
            raise self._unavailable(request, error) from error

    async def aclose(self) -> None:
        """Close all pools and follow no endpoints; a later request begins anew, as with the library's own."""
        async with AsyncExitStack() as each:  # whatever befalls another
            each.push_async_callback(self._others.aclose)
            for pool in self._pools.leaving:
                each.push_async_callback(pool.aclose)
            for cluster in self._clusters.taken():
                cluster.close()
                for pool in cluster.pools():
                    each.push_async_callback(pool.aclose)
