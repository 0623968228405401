"""The httpx door, for httpx2 and httpx alike: the face hands in the library's own classes.

A transport of one library fails in the other on a bare assertion, so the faces subclass that
library's bases; what both kinds share is here, the rest in ``httpx_async`` and ``httpx_sync``. Each
endpoint has one of the library's own transports as its pool: connections, HTTP/2, TLS and the
translation of errors stay the library's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from trimtab.attempt import Retry
from trimtab.balancer import Pick
from trimtab.client.afterwards import end_given_up
from trimtab.client.channel_spec import BootstrapSource, Endpoints
from trimtab.client.http_attempts import Broke, HttpCall, outcome_of_http
from trimtab.client.http_cluster import HttpCluster
from trimtab.client.http_clusters import HttpClusters, HttpFallbacks
from trimtab.client.http_hedging import Tried
from trimtab.client.http_instrumented import own_of, unwrapped
from trimtab.client.httpx_errors import broke as broke_of
from trimtab.client.httpx_errors import is_callers
from trimtab.client.httpx_pools import Pools
from trimtab.client.observing import End
from trimtab.client.request_key import KeyFunction, key_of
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
    _own: ClassVar[Any]  # its function that sends, as the library wrote it
    _plain: ClassVar[Any]  # the same transport, past whatever instrumentation has wrapped around it
    _sends: ClassVar[str]  # that function's name
    _body: ClassVar[Any]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if hasattr(cls, "_inner"):
            cls._own = staticmethod(own_of(cls._inner, cls._sends))  # not to be bound
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
        idle_s: float | None = None,
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
            self._prepare,
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
            idle_s=idle_s,
        )

    @staticmethod
    def _prepare(pool: Any) -> None:
        """Make of an endpoint's HTTP/2 pool what this kind of transport needs."""

    def _refuse_misplaced(self, request: Any, error: BaseException) -> None:
        """See why the library refuses a request: it is of another library, nearly always.

        Raises:
            ConfigError: it is.
        """
        if not isinstance(error, AssertionError) or isinstance(request, self._library.Request):
            return
        theirs, ours = type(request).__module__.partition(".")[0], type(self)
        raise ConfigError(
            f"{ours.__module__}.{ours.__name__} in a client of {theirs}: it is for those of "
            f"{self._library.__name__}; give this one trimtab.{theirs}.{ours.__name__}"
        ) from error

    def _other_kind(self, theirs: str, wanted: str) -> ConfigError:
        library, ours = self._library.__name__, type(self)
        return ConfigError(
            f"{ours.__module__}.{ours.__name__} in {library}.{theirs}: "
            f"give it {ours.__module__}.{wanted}"
        )

    def _anew(self, request: Any) -> HttpCluster:
        """The cluster in the place of one that was let go of."""
        url = request.url
        return self._clusters.anew(url.scheme, url.host, url.port)

    def _key(self, cluster: HttpCluster, name: str, request: Any) -> str | None:
        headers = request.headers.multi_items()
        return key_of(headers, name, cluster.key_function, request.method, request)

    def _call(self, cluster: HttpCluster, request: Any) -> HttpCall:
        repeatable = isinstance(request.stream, self._library.ByteStream)
        timeout = request.extensions.get("timeout") or {}
        return HttpCall(
            cluster.attempts,
            request.method,
            repeatable=repeatable,
            patience=timeout.get("read"),
            connect_s=timeout.get("connect"),
        )

    def _broken(
        self, cluster: HttpCluster, call: HttpCall, pick: Pick, end: End | None, request: Any,
        error: Any, pool: Any, *, own_time: bool = False,
    ) -> Tried:  # fmt: skip
        """End a broken attempt, which ``pool`` made.

        Raises:
            BaseException: the error, if the caller's own code raised it.
        """
        if is_callers(self._core, error):
            end_given_up(pick, end, error)
            raise error
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

    def _give_up(self, request: Any, pick: Pick, end: End | None, error: BaseException) -> None:
        """End an attempt that the caller cancelled, or that can't be made.

        Raises:
            ConfigError: see ``_refuse_misplaced``.
        """
        end_given_up(pick, end, error)
        self._refuse_misplaced(request, error)

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


def patience(request: Any) -> float | None:
    """The longest that the caller waits for a connection [s]; None: for ever."""
    timeout = request.extensions.get("timeout")
    connect: float | None = timeout.get("connect") if timeout else None
    return connect
