"""The httpx door for threads, for httpx2 and httpx alike; see ``httpx_core``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Any, Never

from trimtab.balancer import Pick
from trimtab.client.http2_connections import SyncBackend
from trimtab.client.http_attempts import CLIENT_ERROR, HttpCall
from trimtab.client.http_cluster import HttpCluster, LetGo, Unknown
from trimtab.client.http_discard import let_go
from trimtab.client.http_hedging import HedgedInThreads, Tried
from trimtab.client.http_instrumented import is_wrapped, through
from trimtab.client.http_patched import through_sync
from trimtab.client.http_waiting import pick_blocking
from trimtab.client.httpx_core import CONNECT_S, Core, patience
from trimtab.client.httpx_steering import Steered
from trimtab.client.request_labels import wanted_labels
from trimtab.errors import NoEndpoints


def _discard(response: Any) -> None:
    response.stream.close()


class SyncCore(Core):
    """The transport for threads."""

    _backend = SyncBackend
    _sends = "handle_request"

    @staticmethod
    def _prepare(pool: Any) -> None:
        from trimtab.client.http2_turns import take_turns  # noqa: PLC0415 - its library is an extra's

        take_turns(pool)

    async def __aenter__(self) -> Never:
        raise self._other_kind("AsyncClient", "AsyncTransport")

    async def handle_async_request(self, _request: Any) -> Never:
        """Say which class a client on an event loop takes."""
        raise self._other_kind("AsyncClient", "AsyncTransport")

    def handle_request(self, request: Any) -> Any:
        """Send a request to an endpoint of its cluster, or where it says if it names none."""
        patched = self._inner.handle_request
        if patched is not self._own:
            return self._patched(patched, request)
        url = request.url
        cluster = self._clusters.of(url.scheme, url.host, url.port)
        return self._elsewhere(request) if cluster is None else self._send(cluster, request)

    def _elsewhere(self, request: Any) -> Any:
        try:
            return self._others.handle_request(request)
        except AssertionError as error:
            self._refuse_misplaced(request, error)
            raise

    def _patched(self, patched: Any, request: Any) -> Any:
        """Send it where others have put something around the library's own function, or in its place."""

        def send(request: Any) -> Any:
            url = request.url
            cluster = self._clusters.of(url.scheme, url.host, url.port)
            return self._told(request) if cluster is None else self._send(cluster, request)

        url = request.url
        if not self._clusters.names(url.scheme, url.host, url.port):
            self._clusters.of(url.scheme, url.host, url.port)  # raises what is wrong with it
            return self._elsewhere(request)
        if is_wrapped(patched, self._own):
            return through(patched, self, send, request)
        return through_sync(self._inner, self._library, send, request)

    def _told(self, request: Any) -> Any:
        """Send elsewhere what was sent there by what is around the library's function, past that."""
        own = self._own
        return self._elsewhere(request) if own is None else own(self._others, request)

    def _send(self, cluster: HttpCluster, request: Any) -> Any:
        if cluster.left:
            for pool in cluster.leavers():
                let_go(pool, self._inner.close)
        if not cluster.is_plain(request.method):
            return self._further(cluster, self._call(cluster, request), request)
        # As on a loop.
        try:
            pick = cluster.pick(None, wanted_labels())
        except NoEndpoints:
            return self._further(cluster, self._call(cluster, request), request)
        pool = pick.node.transport
        steered = Steered(request, pick.node, None if cluster.alone else CONNECT_S)
        try:
            response = pool.handle_request(steered)
        except self._library.TransportError as error:
            call = self._call(cluster, request)
            end = call.leaves(pick)
            tried = self._broken(cluster, call, pick, end, request, error, pool)
        except BaseException as error:
            self._give_up(request, pick, None, error)
            raise
        else:
            if response.status_code < CLIENT_ERROR:
                return self._good(cluster, pick, response)
            call = self._call(cluster, request)
            tried = self._answered(cluster, call, pick, call.leaves(pick), response)
        return self._further(cluster, call, request, tried)

    def _further(
        self, cluster: HttpCluster, call: HttpCall, request: Any, tried: Tried | None = None
    ) -> Any:
        """All attempts, or those that follow the first one: ``tried``."""
        try:
            if call.hedges and tried is None:
                attempt = partial(self._attempt, cluster, call, request)
                return HedgedInThreads(call, attempt, _discard, cluster.clock).to_its_end()
            return self._from(cluster, call, request, tried)
        except LetGo:
            return self._send(self._anew(request), request)

    def _from(self, cluster: HttpCluster, call: HttpCall, request: Any, tried: Tried | None) -> Any:
        """See ``AsyncCore``."""
        while True:
            if tried is None:
                tried = self._attempt(cluster, call, request)
            if tried.ended is None:
                return tried.response
            pause = call.after(tried.ended)
            if pause is None:
                return tried.result()
            if tried.response is not None:
                let_go(tried.response, _discard)
            if pause:
                time.sleep(pause)  # noqa: TID251 - the pause before the next attempt
            tried = None

    def _attempt(self, cluster: HttpCluster, call: HttpCall, request: Any) -> Tried:
        name = cluster.balancer.hash_key
        key = None if name is None else self._key(cluster, name, request)
        try:
            pick = cluster.pick(key, wanted_labels(), call.been)
        except NoEndpoints:
            pick = self._pick_later(cluster, call, request, key)
        end = call.leaves(pick)
        pool = pick.node.transport
        steered = Steered(request, pick.node, None if cluster.alone else CONNECT_S, call.attempt_s)
        try:
            response = pool.handle_request(steered)
        except self._library.TransportError as error:
            own = isinstance(error, self._library.ReadTimeout) and steered.is_own_time("read")
            return self._broken(cluster, call, pick, end, request, error, pool, own_time=own)
        except BaseException as error:
            self._give_up(request, pick, end, error)
            raise
        steered.is_answered()
        return self._answered(cluster, call, pick, end, response)

    def _pick_later(
        self, cluster: HttpCluster, call: HttpCall, request: Any, key: str | None
    ) -> Pick:
        try:
            return pick_blocking(cluster, key, patience(request), call.been)
        except LetGo:
            raise
        except Unknown as error:
            raise self._timed_out(request, error) from error
        except NoEndpoints as error:
            raise self._unavailable(request, error) from error

    def close(self) -> None:
        """See ``AsyncCore.aclose``."""
        with ExitStack() as each:  # whatever befalls another
            each.callback(self._others.close)
            for pool in self._pools.leaving:
                each.callback(pool.close)
            for cluster in self._clusters.taken():
                cluster.close()
                for pool in cluster.pools():
                    each.callback(pool.close)
