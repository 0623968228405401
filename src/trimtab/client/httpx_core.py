"""The httpx door, for httpx2 and httpx alike: the face hands in the library's own classes.

A transport of one library fails in the other on a bare assertion, so the faces subclass that
library's bases; all that happens is here. Each endpoint has one of the library's own transports as
its pool: connections, HTTP/2, TLS and the translation of errors stay the library's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from trimtab.balancer import Node, Pick
from trimtab.client.channel_spec import BootstrapSource, Endpoints
from trimtab.client.http_attempts import Broke, HttpCall, outcome_of_http, report_of_http
from trimtab.client.http_cluster import HttpCluster, Unknown
from trimtab.client.http_clusters import HttpClusters, HttpFallbacks
from trimtab.client.http_waiting import pick_blocking, pick_soon
from trimtab.client.request_key import key_of
from trimtab.errors import NoEndpoints
from trimtab.load_report import LoadReport
from trimtab.model import Locality, PolicyConfig
from trimtab.policies import Outcome

CONNECT_S = 1.0
"""The longest wait for one endpoint's connection while others could be asked [s]."""


class _Url:
    """Where a request goes, in the words that a library's transport reads."""

    __slots__ = ("host", "port", "raw_host", "raw_path", "raw_scheme", "scheme")

    def __init__(self, url: Any, node: Node) -> None:
        self.raw_scheme = b"http" if url.raw_scheme == b"xds" else url.raw_scheme
        self.scheme = self.raw_scheme.decode()
        self.host = node.endpoint.address
        self.raw_host = self.host.encode()
        self.port = node.endpoint.port
        self.raw_path = url.raw_path


class _Steered:
    """A request on its way to an endpoint. Headers, ``Host`` among them, are the caller's."""

    __slots__ = ("extensions", "headers", "method", "stream", "url")

    def __init__(self, request: Any, node: Node, *, alone: bool) -> None:
        url = request.url
        extensions = request.extensions
        timeout = extensions.get("timeout")
        if not alone and timeout is not None:
            connect = timeout.get("connect")
            if connect is None or connect > CONNECT_S:
                extensions = {**extensions, "timeout": {**timeout, "connect": CONNECT_S}}
        if url.raw_scheme == b"https" and "sni_hostname" not in extensions:
            extensions = {**extensions, "sni_hostname": url.raw_host.decode()}
        self.method = request.method
        self.url = _Url(url, node)
        self.headers = request.headers
        self.stream = request.stream
        self.extensions = extensions


class _Claim:
    """What a response's body holds until it ends. The faces' bodies inherit this."""

    def __init__(
        self, stream: Any, pick: Pick, outcome: Outcome, report: LoadReport | None
    ) -> None:
        self._stream = stream
        self._pick = pick
        self._outcome = outcome
        self._report = report

    def __del__(self) -> None:
        pick = getattr(self, "_pick", None)
        if pick is not None and pick.open:  # dropped unread: the caller lost interest
            pick.drop()


class AsyncBody(_Claim):
    """A body on an event loop."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except Exception:
            self._pick.finish(Outcome.FAILURE)
            raise

    async def aclose(self) -> None:
        """End the pick, whatever becomes of the connection."""
        try:
            await self._stream.aclose()
        finally:
            self._pick.finish(self._outcome, self._report)


class SyncBody(_Claim):
    """A body in a thread."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except Exception:
            self._pick.finish(Outcome.FAILURE)
            raise

    def close(self) -> None:
        """End the pick, whatever becomes of the connection."""
        try:
            self._stream.close()
        finally:
            self._pick.finish(self._outcome, self._report)


class Core:
    """What both kinds of transport share; see ``trimtab.httpx.Transport`` for the arguments."""

    _library: ClassVar[Any]
    _inner: ClassVar[Any]  # the library's own transport
    _body: ClassVar[Any]

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
        **options: Any,
    ) -> None:
        self._clusters = HttpClusters(
            self._make_pool,
            hosts,
            policy=policy,
            endpoints=endpoints,
            bootstrap=bootstrap,
            locality=locality,
            labels=labels,
            fallback=fallback,
        )
        # One TLS context for all pools: reading the system's certificates takes milliseconds.
        options["verify"] = self._library.create_ssl_context(
            verify=options.get("verify", True),
            cert=options.pop("cert", None),
            trust_env=options.get("trust_env", True),
        )
        self._options = options
        self._others = self._inner(**options)

    def _make_pool(self, node: Node) -> Any:  # noqa: ARG002 - a pool is told its address by each request
        return self._inner(**{**self._options, "proxy": None})

    def _cluster_of(self, url: Any) -> HttpCluster | None:
        return self._clusters.of(url.scheme, url.host, url.port)

    def _key(self, cluster: HttpCluster, request: Any) -> str | None:
        name = cluster.balancer.hash_key
        return None if name is None else key_of(request.headers.multi_items(), name)

    def _call(self, cluster: HttpCluster, request: Any) -> HttpCall:
        repeatable = isinstance(request.stream, self._library.ByteStream)
        return HttpCall(
            cluster.budget,
            request.method,
            repeatable=repeatable,
            balancer=cluster.balancer,
            observer=cluster.observer,
        )

    def _broke(self, error: BaseException) -> Broke:
        library = self._library
        if isinstance(error, library.ConnectError | library.ConnectTimeout):
            return Broke.UNREACHED
        if isinstance(error, library.NetworkError | library.RemoteProtocolError):
            return Broke.LOST
        if isinstance(error, library.PoolTimeout):
            return Broke.LOCAL
        if isinstance(error, library.TimeoutException):
            return Broke.TIMEOUT
        return Broke.LOCAL

    def _after(
        self, cluster: HttpCluster, call: HttpCall, pick: Pick, error: BaseException
    ) -> bool:
        """End a broken attempt; whether to go on with another."""
        broke = self._broke(error)
        pick.finish(broke.outcome)
        if broke in {Broke.UNREACHED, Broke.LOST}:
            cluster.rest(pick.node)
        return call.after_break(broke)

    def _explained(self, cluster: HttpCluster, request: Any, pick: Pick, error: Any) -> Any:
        text = cluster.explain(pick.node, str(error) or type(error).__name__)
        return type(error)(text, request=request)

    def _unavailable(self, request: Any, error: NoEndpoints) -> Any:
        return self._library.ConnectError(str(error), request=request)

    def _timed_out(self, request: Any, error: NoEndpoints) -> Any:
        return self._library.ConnectTimeout(str(error), request=request)

    def _accept(self, cluster: HttpCluster, pick: Pick, response: Any) -> Any:
        cluster.answered(pick.node)
        response.stream = self._body(
            response.stream,
            pick,
            outcome_of_http(response.status_code),
            report_of_http(response.headers, cluster.wall),
        )
        return response


def _patience(request: Any) -> float | None:
    timeout = request.extensions.get("timeout")
    connect: float | None = timeout.get("connect") if timeout else None
    return connect


def _is_alone(cluster: HttpCluster) -> bool:
    return len(cluster.balancer.nodes) == 1


class AsyncCore(Core):
    """The transport on an event loop."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request to an endpoint of its cluster, or where it says if it names none."""
        cluster = self._cluster_of(request.url)
        if cluster is None:
            return await self._others.handle_async_request(request)
        for pool in cluster.leavers():
            await pool.aclose()
        call = self._call(cluster, request)
        while True:
            pick = await self._pick(cluster, request)
            call.leaves(pick.node.endpoint)
            try:
                steered = _Steered(request, pick.node, alone=_is_alone(cluster))
                response = await pick.node.transport.handle_async_request(steered)
            except self._library.TransportError as error:
                if self._after(cluster, call, pick, error):
                    continue
                raise self._explained(cluster, request, pick, error) from error
            except BaseException:
                pick.finish(Outcome.CANCELLED)
                call.given_up()
                raise
            response = self._accept(cluster, pick, response)
            if not call.after_answer(response.status_code):
                return response
            await response.stream.aclose()

    async def _pick(self, cluster: HttpCluster, request: Any) -> Pick:
        try:
            return await pick_soon(cluster, self._key(cluster, request), _patience(request))
        except Unknown as error:
            raise self._timed_out(request, error) from error
        except NoEndpoints as error:
            raise self._unavailable(request, error) from error

    async def aclose(self) -> None:
        """Close all pools and follow no endpoints any more."""
        for cluster in self._clusters:
            cluster.close()
            for pool in cluster.pools():
                await pool.aclose()
        await self._others.aclose()


class SyncCore(Core):
    """The transport for threads."""

    def handle_request(self, request: Any) -> Any:
        """Send a request to an endpoint of its cluster, or where it says if it names none."""
        cluster = self._cluster_of(request.url)
        if cluster is None:
            return self._others.handle_request(request)
        for pool in cluster.leavers():
            pool.close()
        call = self._call(cluster, request)
        while True:
            pick = self._pick(cluster, request)
            call.leaves(pick.node.endpoint)
            try:
                steered = _Steered(request, pick.node, alone=_is_alone(cluster))
                response = pick.node.transport.handle_request(steered)
            except self._library.TransportError as error:
                if self._after(cluster, call, pick, error):
                    continue
                raise self._explained(cluster, request, pick, error) from error
            except BaseException:
                pick.finish(Outcome.CANCELLED)
                call.given_up()
                raise
            response = self._accept(cluster, pick, response)
            if not call.after_answer(response.status_code):
                return response
            response.stream.close()

    def _pick(self, cluster: HttpCluster, request: Any) -> Pick:
        try:
            return pick_blocking(cluster, self._key(cluster, request), _patience(request))
        except Unknown as error:
            raise self._timed_out(request, error) from error
        except NoEndpoints as error:
            raise self._unavailable(request, error) from error

    def close(self) -> None:
        """Close all pools and follow no endpoints any more."""
        for cluster in self._clusters:
            cluster.close()
            for pool in cluster.pools():
                pool.close()
        self._others.close()
