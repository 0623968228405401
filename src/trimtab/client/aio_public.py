"""The asyncio channel on gRPC's public interface alone: slower, and there when hooks are not.

Without interceptors a call goes straight to the picked endpoint's multicallable. With them, or
while nothing can leave, it goes through a native channel that is never connected: its last
interceptor waits, picks, and answers with the picked endpoint's call.

What the public interface can't do: a stream that is dropped unfinished stays in flight until its
deadline or the channel's end, since the callback that counts it keeps it alive; and a call that ends as CANCELLED in a race
with a GOAWAY looks as if its caller had cancelled it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from trimtab.attempt import KeepingSerializer, outcome_of_grpc, report_of
from trimtab.balancer import Pick
from trimtab.client.aio_cluster import AioCluster, AioLink
from trimtab.client.aio_face import Face
from trimtab.client.aio_interceptors import RETRYING
from trimtab.client.aio_now import now_of
from trimtab.client.aio_patience import waits_for_ready
from trimtab.client.aio_waiting import Continuation, Details, Waiting, method_of
from trimtab.client.attempts import sent, trail
from trimtab.client.call_details import joined
from trimtab.client.channel_spec import ChannelSpec
from trimtab.client.forking import FORKED, watch_forks
from trimtab.client.native_channels import aio_is_replaced, public_aio_channel
from trimtab.client.observing import name_of
from trimtab.client.request_key import key_of
from trimtab.client.request_labels import wanted_labels
from trimtab.client.unreached import unreached
from trimtab.policies import Outcome

_placing: ContextVar[PublicCalls] = ContextVar("trimtab_placing")


class PublicLink(AioLink):
    """A link with the native multicallables that were needed so far."""

    __slots__ = ("natives",)

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.natives: dict[tuple[Any, ...], Any] = {}

    def let_go(self) -> None:
        """See ``AioLink``."""
        super().let_go()
        self.natives.clear()


class PublicCalls:
    """A multicallable of any arity.

    Args:
        channel: the face; kept alive by its stubs.
        arity: the name of the channel method that makes it.
        codec: the request serializer, the response deserializer, and whether it is registered.
    """

    def __init__(
        self, channel: PublicChannel, arity: str, method: str, codec: tuple[Any, Any, bool | None]
    ) -> None:
        self._channel = channel
        self._arity = arity
        self._method = method
        self._codec = codec
        self._front = self._made_on(channel.front, method)

    def _made_on(self, channel: grpc.aio.Channel, method: str) -> Any:
        serializer, deserializer, registered = self._codec
        if self._arity.startswith("stream"):
            serializer = KeepingSerializer(serializer)
        make = getattr(channel, self._arity)
        return make(method, serializer, deserializer, _registered_method=registered)

    def __call__(self, *request: Any, **more: Any) -> Any:
        """Begin a call; the arguments are those of ``grpc.aio``'s multicallables."""
        if self._channel.direct(self._method) and not waits_for_ready(request, more):
            return self.place(self._method, *request, **more)
        token = _placing.set(self)
        try:
            return self._front(*request, **more)
        finally:
            _placing.reset(token)

    def place(self, method: str, *request: Any, **more: Any) -> Any:
        """Pick an endpoint and begin the call there."""
        cluster = self._channel.cluster
        wanted = cluster.balancer.hash_key
        asked = request[0] if request and self._arity.startswith("unary") else None
        key = (
            None
            if wanted is None
            else key_of(more.get("metadata"), wanted, cluster.key_function, method, asked)
        )
        visit = trail.get()
        if visit is None:
            pick = cluster.balancer.pick(key, wanted_labels())
        else:
            pick = cluster.balancer.pick_apart(visit.been, key, wanted_labels())
            visit.at(pick)
        link: PublicLink = pick.transport
        if len(link.open) >= link.room:
            link = pick.transport = cluster.links.roomier(pick.node, link)
        link.open.add(pick)
        if more.get("wait_for_ready"):
            more["wait_for_ready"] = link.by_name  # see ``aio_patience``
        kind = (self._arity, method, *self._codec)
        try:
            native = link.natives.get(kind)
            if native is None:
                native = link.natives[kind] = self._made_on(link.channel, method)
            call = native(*request, **more)
        except BaseException:
            pick.finish(Outcome.CANCELLED)
            cluster.links.ended(pick)
            raise
        self._channel.open.add(call)
        observer = joined(cluster.observer)
        end = None
        if observer is not None:
            end = observer.attempt(sent(cluster.balancer, method, pick.node, visit))

        def ended(call: Any) -> None:
            self._channel.open.discard(call)
            pick.finish(_outcome(pick, call), report_of(now_of(call.trailing_metadata())))
            cluster.links.ended(pick)
            if end is not None:
                code = now_of(call.code())
                end(name_of(-1 if code is None else code.value[0]))

        call.add_done_callback(ended)
        if cluster.balancer.probing:
            cluster.probes.send()
        return call


class _Placing(Waiting):
    """Waits like its base, then places the call instead of going on."""

    async def go_on(
        self,
        continuation: Continuation,  # noqa: ARG002
        details: Details,
        request: Any,
        asked: Any = None,  # noqa: ARG002
    ) -> Any:
        """Wait, then pick."""
        details = await self.wait(details)
        return _placing.get().place(
            method_of(details),
            request,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


# gRPC sorts interceptors by their class, each into the list of one arity only.


class _PlacingUnaryUnary(_Placing, grpc.aio.UnaryUnaryClientInterceptor):
    pass


class _PlacingUnaryStream(_Placing, grpc.aio.UnaryStreamClientInterceptor):
    pass


class _PlacingStreamUnary(_Placing, grpc.aio.StreamUnaryClientInterceptor):
    pass


class _PlacingStreamStream(_Placing, grpc.aio.StreamStreamClientInterceptor):
    pass


class PublicChannel(Face, grpc.aio.Channel):
    """A ``grpc.aio.Channel`` that sends each call to the endpoint that the policy picks."""

    def __init__(
        self, spec: ChannelSpec, interceptors: Sequence[grpc.aio.ClientInterceptor] | None
    ) -> None:
        loop = asyncio.get_event_loop()  # the running one, or the one that will run
        self.open: set[Any] = set()
        self._intercepted = bool(interceptors) or aio_is_replaced(spec.credentials)
        self._closing = False
        self.cluster = self._cluster = AioCluster(spec, loop, PublicLink, lambda _ready: None)
        placing = (
            kind(self._cluster)
            for kind in (
                _PlacingUnaryUnary,
                _PlacingUnaryStream,
                _PlacingStreamUnary,
                _PlacingStreamStream,
            )
        )
        cluster = self._cluster
        told = (cluster.attempts, cluster.clock, cluster.balancer.cluster, cluster.observer)
        retrying: list[grpc.aio.ClientInterceptor] = [kind(*told) for kind in RETRYING]
        all_interceptors = [*(interceptors or ()), *retrying, *placing]
        self.front = public_aio_channel(
            spec.service, spec.credentials, spec.options, spec.compression, all_interceptors
        )
        self._cluster.start()
        watch_forks(self)

    def forked(self) -> None:
        """See ``forking.Copied``: each call fails at once, since the loop is the parent's, too."""
        self.cluster.closed_text = FORKED
        self._closing = True

    def direct(self, method: str) -> bool:
        """Whether a call can go straight to an endpoint."""
        if self._closing:
            raise grpc.aio.UsageError(self.cluster.closed_text)
        if self._intercepted or self._cluster.attempts.follows(method, None):
            return False
        return self._cluster.availability.ready(wanted_labels())

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """See ``grpc.aio.Channel``."""
        codec = (request_serializer, response_deserializer, _registered_method)
        return PublicCalls(self, "unary_unary", method, codec)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """See ``grpc.aio.Channel``."""
        codec = (request_serializer, response_deserializer, _registered_method)
        return PublicCalls(self, "unary_stream", method, codec)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """See ``grpc.aio.Channel``."""
        codec = (request_serializer, response_deserializer, _registered_method)
        return PublicCalls(self, "stream_unary", method, codec)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """See ``grpc.aio.Channel``."""
        codec = (request_serializer, response_deserializer, _registered_method)
        return PublicCalls(self, "stream_stream", method, codec)

    async def close(self, grace: float | None = None) -> None:
        """Let calls in flight end within ``grace`` seconds, cancel the rest. Idempotent.

        A call that still waits for an endpoint is cancelled at once: it has not left, and what has
        not left is refused from here on. (A native channel gives its waiting calls the grace too.)
        """
        if self._closing:
            return
        if grace and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        self._closing = True
        self._cluster.close()
        if grace and self.open:
            await asyncio.wait([asyncio.ensure_future(c.code()) for c in self.open], timeout=grace)
        for call in list(self.open):
            call.cancel()
        await self.front.close()
        await self._cluster.release_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closing", True):  # unset if __init__ raised
            self._cluster.abandon()


def _outcome(pick: Pick, call: Any) -> Outcome:
    """From a call that has ended: then its status is there, and the coroutine does not wait."""
    code = now_of(call.code())
    if code is None:
        return Outcome.FAILURE
    number = code.value[0]
    if code is grpc.StatusCode.UNAVAILABLE:
        initial = now_of(call.initial_metadata())  # None: not known
        if unreached(pick, number, now_of(call.details()), initial is None or initial):
            return Outcome.UNREACHED
    return outcome_of_grpc(number)
