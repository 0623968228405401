"""The httpx door, for httpx2 and httpx alike: the face hands in the library's own classes.

A transport of one library fails in the other on a bare assertion, so the faces subclass that
library's bases; all that happens is here. Each endpoint has one of the library's own transports as
its pool: connections, HTTP/2, TLS and the translation of errors stay the library's business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Any, ClassVar, Never

from trimtab.attempt import Retry
from trimtab.balancer import Pick
from trimtab.client.channel_spec import BootstrapSource, Endpoints
from trimtab.client.http2_connections import AsyncBackend, SyncBackend
from trimtab.client.http_attempts import CLIENT_ERROR, Broke, HttpCall, outcome_of_http
from trimtab.client.http_cluster import HttpCluster, Unknown
from trimtab.client.http_clusters import HttpClusters, HttpFallbacks
from trimtab.client.http_discard import let_go, let_go_soon
from trimtab.client.http_hedging import HedgedInThreads, HedgedOnLoop, Tried
from trimtab.client.http_instrumented import through, unwrapped
from trimtab.client.http_pool_slots import free_slots
from trimtab.client.http_waiting import pick_blocking, pick_soon
from trimtab.client.httpx_errors import broke as broke_of
from trimtab.client.httpx_pools import Pools
from trimtab.client.httpx_steering import Steered
from trimtab.client.observing import End
from trimtab.client.request_key import KeyFunction, key_of
from trimtab.client.request_labels import wanted_labels
from trimtab.errors import ConfigError, NoEndpoints
from trimtab.model import Locality, PolicyConfig
from trimtab.policies import Outcome

_SUCCESS = Outcome.SUCCESS  # a global is found quicker than an enumeration's member
CONNECT_S = 1.0
"""The longest wait for one endpoint's connection while others could be asked [s]."""


class Core:
    """What both kinds of transport share; see ``trimtab.httpx.Transport`` for the arguments."""

    _library: ClassVar[Any]
    _core: ClassVar[Any]  # what it is built on
    _backend: ClassVar[Any]
    _inner: ClassVar[Any]  # the library's own transport
    _plain: ClassVar[Any]  # the same, past whatever instrumentation has wrapped around it
    _sends: ClassVar[str]  # the name of the method that does
    _body: ClassVar[Any]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if hasattr(cls, "_inner"):
            cls._plain = unwrapped(cls._inner, cls._sends)

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
        **options: Any,
    ) -> None:
        # One TLS context for all pools: reading the system's certificates takes milliseconds.
        options["verify"] = self._library.create_ssl_context(
            verify=options.get("verify", True),
            cert=options.pop("cert", None),
            trust_env=options.get("trust_env", True),
        )
        self._others = self._inner(**options)
        # Who follows endpoints makes pools, and must not hold the transport: it may be dropped unclosed.
        self._pools = Pools(
            partial(self._plain, **{**options, "proxy": None}),
            self._backend if options.get("http2") else None,
            self._core.ReadTimeout,
        )
        self._clusters = HttpClusters(
            self._pools,
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
        )

    def _misplaced(self, request: Any, error: AssertionError) -> Exception:
        """What to say when the library refuses a request: that of another library, nearly always."""
        if isinstance(request, self._library.Request):
            return error
        theirs, ours = type(request).__module__.partition(".")[0], type(self)
        return ConfigError(
            f"{ours.__module__}.{ours.__name__} in a client of {theirs}: it is for those of "
            f"{self._library.__name__}; give this one trimtab.{theirs}.{ours.__name__}"
        )

    def _other_kind(self, theirs: str, wanted: str) -> ConfigError:
        library, ours = self._library.__name__, type(self)
        return ConfigError(
            f"{ours.__module__}.{ours.__name__} in {library}.{theirs}: "
            f"give it {ours.__module__}.{wanted}"
        )

    def _key(self, cluster: HttpCluster, name: str, request: Any) -> str | None:
        headers = request.headers.multi_items()
        return key_of(headers, name, cluster.key_function, request.method, request)

    def _call(self, cluster: HttpCluster, request: Any) -> HttpCall:
        repeatable = isinstance(request.stream, self._library.ByteStream)
        timeout = request.extensions.get("timeout")
        patience = timeout.get("read") if timeout else None
        return HttpCall(cluster.attempts, request.method, repeatable=repeatable, patience=patience)

    def _broken(
        self, cluster: HttpCluster, call: HttpCall, pick: Pick, end: End | None, request: Any,
        error: Any, pool: Any, *, own_time: bool = False,
    ) -> Tried:  # fmt: skip
        """End a broken attempt, which ``pool`` made."""
        broke = broke_of(self._library, error)
        if broke is Broke.REFUSED and pick.node.transport is not pool:
            broke = Broke.UNREAD  # that is how ``http2_farewell`` tells of what a server left
        pick.finish(broke.outcome)
        if broke in {Broke.UNREACHED, Broke.LOST}:
            cluster.rest(pick.node)
        text = cluster.explain(pick.node, str(error) or type(error).__name__)
        explained = type(error)(text, request=request)
        explained.__cause__ = error
        return Tried(None, explained, call.broken(broke, end, own_time=own_time))

    def _unavailable(self, request: Any, error: NoEndpoints) -> Any:
        return self._library.ConnectError(str(error), request=request)

    def _timed_out(self, request: Any, error: NoEndpoints) -> Any:
        return self._library.ConnectTimeout(str(error), request=request)

    def _good(self, cluster: HttpCluster, pick: Pick, response: Any) -> Any:
        """The first attempt brought an answer that nobody would ask for again."""
        cluster.attempts.budget.earn()
        report = cluster.answered(pick.node, response.status_code, response.headers)
        response.stream = self._body(response.stream, pick, _SUCCESS, report)
        return response

    def _answered(
        self, cluster: HttpCluster, call: HttpCall, pick: Pick, end: End | None, response: Any
    ) -> Tried:
        status = response.status_code
        report = cluster.answered(pick.node, status, response.headers)
        outcome = outcome_of_http(status)
        response.stream = self._body(response.stream, pick, outcome, report)
        return Tried(response, None, call.answered(status, report, end))


def _patience(request: Any) -> float | None:
    timeout = request.extensions.get("timeout")
    connect: float | None = timeout.get("connect") if timeout else None
    return connect


def _give_up(pick: Pick, end: End | None) -> None:
    """The caller cancelled it."""
    pick.finish(Outcome.CANCELLED)
    if end is not None:
        end("CANCELLED")


async def _discard_soon(response: Any) -> None:
    await response.stream.aclose()


def _discard(response: Any) -> None:
    response.stream.close()


class AsyncCore(Core):
    """The transport on an event loop."""

    _backend = AsyncBackend
    _sends = "handle_async_request"

    def __enter__(self) -> Never:
        raise self._other_kind("Client", "Transport")

    def handle_request(self, _request: Any) -> Never:
        """Say which class a blocking client takes."""
        raise self._other_kind("Client", "Transport")

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request to an endpoint of its cluster, or where it says if it names none."""
        url = request.url
        cluster = self._clusters.of(url.scheme, url.host, url.port)
        if cluster is None:
            try:
                return await self._others.handle_async_request(request)
            except AssertionError as error:
                raise self._misplaced(request, error) from error
        patched = self._inner.handle_async_request
        if patched is not self._plain.handle_async_request:
            return await through(patched, self, partial(self._send, cluster), request)
        try:
            return await self._send(cluster, request)
        except AssertionError as error:
            raise self._misplaced(request, error) from error

    async def _send(self, cluster: HttpCluster, request: Any) -> Any:
        if cluster.left:
            for pool in cluster.leavers():
                await let_go_soon(pool, self._inner.aclose)
        if cluster.balancer.hash_key is not None or not cluster.attempts.is_plain(request.method):
            call = self._call(cluster, request)
            if call.hedges:
                attempt = partial(self._attempt, cluster, call, request)
                return await HedgedOnLoop(call, attempt, _discard_soon, cluster.clock).to_its_end()
            return await self._from(cluster, call, request, None)
        # Nearly all requests: what is only of use when one doesn't end well is made when it doesn't.
        try:
            pick = cluster.pick(None, wanted_labels())
        except NoEndpoints:
            return await self._from(cluster, self._call(cluster, request), request, None)
        pool = pick.node.transport
        steered = Steered(request, pick.node, None if cluster.alone else CONNECT_S)
        try:
            response = await pool.handle_async_request(steered)
        except self._library.TransportError as error:
            call = self._call(cluster, request)
            end = call.leaves(pick.node)
            tried = self._broken(cluster, call, pick, end, request, error, pool)
        except BaseException:
            pick.finish(Outcome.CANCELLED)
            await free_slots(pool)
            raise
        else:
            if response.status_code < CLIENT_ERROR:
                return self._good(cluster, pick, response)
            call = self._call(cluster, request)
            tried = self._answered(cluster, call, pick, call.leaves(pick.node), response)
        return await self._from(cluster, call, request, tried)

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
        end = call.leaves(pick.node)
        pool = pick.node.transport
        steered = Steered(request, pick.node, None if cluster.alone else CONNECT_S)
        limit = call.attempt_s
        try:
            if limit is None:
                response = await pool.handle_async_request(steered)
            else:
                async with asyncio.timeout(limit):
                    response = await pool.handle_async_request(steered)
        except self._library.TransportError as error:
            return self._broken(cluster, call, pick, end, request, error, pool)
        except TimeoutError:  # ours: the libraries' are transport errors
            late = self._library.ReadTimeout(f"no answer within {limit:g} s")
            tried = self._broken(cluster, call, pick, end, request, late, pool, own_time=True)
            await free_slots(pool)
            return tried
        except BaseException:
            _give_up(pick, end)
            await free_slots(pool)
            raise
        return self._answered(cluster, call, pick, end, response)

    async def _pick_later(
        self, cluster: HttpCluster, call: HttpCall, request: Any, key: str | None
    ) -> Pick:
        try:
            return await pick_soon(cluster, key, _patience(request), call.been)
        except Unknown as error:
            raise self._timed_out(request, error) from error
        except NoEndpoints as error:
            raise self._unavailable(request, error) from error

    async def aclose(self) -> None:
        """Close all pools and follow no endpoints any more."""
        async with AsyncExitStack() as each:  # whatever befalls another
            each.push_async_callback(self._others.aclose)
            for pool in list(self._pools.leaving):
                each.push_async_callback(pool.aclose)
            for cluster in self._clusters:
                cluster.close()
                for pool in cluster.pools():
                    each.push_async_callback(pool.aclose)


class SyncCore(Core):
    """The transport for threads."""

    _backend = SyncBackend
    _sends = "handle_request"

    async def __aenter__(self) -> Never:
        raise self._other_kind("AsyncClient", "AsyncTransport")

    async def handle_async_request(self, _request: Any) -> Never:
        """Say which class a client on an event loop takes."""
        raise self._other_kind("AsyncClient", "AsyncTransport")

    def handle_request(self, request: Any) -> Any:
        """Send a request to an endpoint of its cluster, or where it says if it names none."""
        url = request.url
        cluster = self._clusters.of(url.scheme, url.host, url.port)
        if cluster is None:
            try:
                return self._others.handle_request(request)
            except AssertionError as error:
                raise self._misplaced(request, error) from error
        patched = self._inner.handle_request
        if patched is not self._plain.handle_request:
            return through(patched, self, partial(self._send, cluster), request)
        try:
            return self._send(cluster, request)
        except AssertionError as error:
            raise self._misplaced(request, error) from error

    def _send(self, cluster: HttpCluster, request: Any) -> Any:
        if cluster.left:
            for pool in cluster.leavers():
                let_go(pool, self._inner.close)
        if cluster.balancer.hash_key is not None or not cluster.attempts.is_plain(request.method):
            call = self._call(cluster, request)
            if call.hedges:
                attempt = partial(self._attempt, cluster, call, request)
                return HedgedInThreads(call, attempt, _discard, cluster.clock).to_its_end()
            return self._from(cluster, call, request, None)
        # As on a loop.
        try:
            pick = cluster.pick(None, wanted_labels())
        except NoEndpoints:
            return self._from(cluster, self._call(cluster, request), request, None)
        pool = pick.node.transport
        steered = Steered(request, pick.node, None if cluster.alone else CONNECT_S)
        try:
            response = pool.handle_request(steered)
        except self._library.TransportError as error:
            call = self._call(cluster, request)
            end = call.leaves(pick.node)
            tried = self._broken(cluster, call, pick, end, request, error, pool)
        except BaseException:
            pick.finish(Outcome.CANCELLED)
            raise
        else:
            if response.status_code < CLIENT_ERROR:
                return self._good(cluster, pick, response)
            call = self._call(cluster, request)
            tried = self._answered(cluster, call, pick, call.leaves(pick.node), response)
        return self._from(cluster, call, request, tried)

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
        end = call.leaves(pick.node)
        pool = pick.node.transport
        steered = Steered(request, pick.node, None if cluster.alone else CONNECT_S, call.attempt_s)
        try:
            response = pool.handle_request(steered)
        except self._library.TransportError as error:
            own = isinstance(error, self._library.ReadTimeout) and steered.is_own_time("read")
            return self._broken(cluster, call, pick, end, request, error, pool, own_time=own)
        except BaseException:
            _give_up(pick, end)
            raise
        steered.is_answered()
        return self._answered(cluster, call, pick, end, response)

    def _pick_later(
        self, cluster: HttpCluster, call: HttpCall, request: Any, key: str | None
    ) -> Pick:
        try:
            return pick_blocking(cluster, key, _patience(request), call.been)
        except Unknown as error:
            raise self._timed_out(request, error) from error
        except NoEndpoints as error:
            raise self._unavailable(request, error) from error

    def close(self) -> None:
        """Close all pools and follow no endpoints any more."""
        with ExitStack() as each:  # whatever befalls another
            each.callback(self._others.close)
            for pool in list(self._pools.leaving):
                each.callback(pool.close)
            for cluster in self._clusters:
                cluster.close()
                for pool in cluster.pools():
                    each.callback(pool.close)
