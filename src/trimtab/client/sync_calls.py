"""The four kinds of sync calls: pick, hand the call to that endpoint's native channel, count it.

Blocking calls are counted by ``finally``, the others by ``RpcContext.add_callback``, whose callback
refers to the call weakly: a call that its caller drops is cancelled by gRPC as ever.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import grpc
import grpc.experimental

from trimtab.attempt import outcome_of_grpc, report_of
from trimtab.attempt.course import MOST_UNSENT
from trimtab.balancer import Pick
from trimtab.client.afterwards import afterwards
from trimtab.client.attempts import sent, trail
from trimtab.client.call_details import WANTED, joined
from trimtab.client.channel_spec import Options
from trimtab.client.observing import AttemptEnd, End, plain
from trimtab.client.request_key import key_of
from trimtab.client.request_labels import wanted_labels
from trimtab.client.sync_cluster import SyncCluster, SyncLink
from trimtab.client.sync_exchange import exchange
from trimtab.client.unreached import received, unreached
from trimtab.policies import CANCELLED, SUCCESS, Outcome

Metadata = Any
MakeNative = Callable[[grpc.Channel], Any]

_CANCELLED = grpc.StatusCode.CANCELLED
_MOST_PATIENT = 300  # each time is two calls deeper, of the interpreter's thousand
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def single_threaded(options: Options) -> bool:
    """Whether native channels run the callbacks of unary-stream calls only while one iterates."""
    option = grpc.experimental.ChannelOptions.SingleThreadedUnaryStream
    return "GRPC_SINGLE_THREADED_UNARY_STREAM" in os.environ or option in dict(options)


def told(end: End | None, run: Callable[..., Any], *given: Any) -> Any:
    """What ``run`` makes of ``given``: a call, whose status ``end`` is told."""
    if end is None:
        return run(*given)
    status = _CANCELLED.name
    try:
        answer = run(*given)
        status = "OK"
    except grpc.RpcError as error:
        status = error.code().name
        raise
    finally:
        end(status)
    return answer


class Calls:
    """What the four kinds share: placing a call, and counting it to its end.

    Args:
        channel: the face; kept alive by its stubs.
        cluster: who picks.
        method: ``/package.Service/Method``.
        make: makes the native multicallable on an endpoint's channel.
        drop_counts: see ``single_threaded``.
        private: whether gRPC's private names are used; see ``sync_exchange``.
    """

    streams = False  # whether the request is a stream; gRPC takes from an iterator at once

    def __init__(
        self,
        channel: grpc.Channel,
        cluster: SyncCluster,
        method: str,
        make: MakeNative,
        *,
        drop_counts: bool,
        private: bool,
    ) -> None:
        self._channel = channel
        self._cluster = cluster
        self.method = method
        self._make = make
        self._drop_counts = drop_counts
        self._exchange = exchange if private and not self.streams else _exchange_publicly
        self._natives: dict[SyncLink, Any] = {}

    def native(self, link: SyncLink) -> Any:
        """The multicallable of an endpoint; made at its first call."""
        native = self._natives.get(link)
        if native is None:
            if len(self._natives) > 2 * len(self._cluster.links) + 8:
                known = self._natives.copy()  # at once, as other threads add to it
                self._natives = {k: v for k, v in known.items() if not k.closed}
            native = self._natives[link] = link.made(self._make)
        return native

    def block(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
        _how: str = "__call__",
        _unsent: int = 0,
    ) -> Any:
        """Make a blocking call: the response. Raises ``grpc.RpcError``.

        One that provably reached nobody leaves again. ``_unsent`` is how often it did. It waits for an endpoint here
        and never in an endpoint's own channel, which may be that of a dead one.
        ``_how`` is the native multicallable's method. This is the whole way of a call, in one
        function: what is cold, as all is after a wait, costs some four times what it does in a loop.
        """
        cluster = self._cluster
        balancer = cluster.balancer
        wanted = balancer.hash_key
        key = None if wanted is None else self._key(wanted, metadata, request)
        labels = wanted_labels()
        pick = cluster.try_place(key, labels)
        if pick is None:
            timeout = cluster.attempts.limit(self.method, timeout)
            pick, timeout = cluster.place(timeout, wait_for_ready, key, labels)
        outcome = CANCELLED  # KeyboardInterrupt and the like
        report = None
        end = None if cluster.observer is None and not WANTED.now else self._seen(pick, _unsent)
        code = _CANCELLED
        link = pick.transport
        try:
            call = self._natives.get(link) or self.native(link)
            if _how == "__call__":
                response, ended = self._exchange(
                    call,
                    request,
                    timeout,
                    metadata,
                    credentials,
                    wait_for_ready and link.by_name,
                    compression,
                )
            else:
                response = both = call.with_call(
                    request,
                    timeout,
                    metadata,
                    credentials,
                    wait_for_ready and link.by_name,
                    compression,
                )
                ended = both[1]
            if balancer.reads_reports:
                report = report_of(_trailing(ended))
            outcome = SUCCESS
        except grpc.RpcError as error:
            code = error.code()
            outcome = _outcome(code, pick, error)
            # Under a second name the error would hold this frame, which it holds, until garbage is collected.
            report = report_of(error.trailing_metadata())  # type: ignore[arg-type]  # so are they typed
            if not self._leaves_again(outcome, _unsent, wait_for_ready):
                raise
        finally:
            balancer.finish(pick, outcome, report)
            link.open.discard(pick)
            if link.leaving:
                cluster.ended(pick, outcome)
            if end is not None:
                status = "OK" if outcome is SUCCESS else code.name
                end(status, more=self._leaves_again(outcome, _unsent, wait_for_ready))
        if outcome is SUCCESS:
            return response
        timeout = cluster.attempts.limit(self.method, timeout)
        if timeout is not None:
            timeout = max(0.0, timeout - (cluster.clock() - pick.started))
        return told(
            None if _unsent else self._told(cluster.clock() - pick.started),
            self.block,
            request,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
            _how,
            _unsent + 1,
        )

    def _leaves_again(self, outcome: Outcome, unsent: int, waits: bool | None) -> bool:
        most = _MOST_PATIENT if waits else MOST_UNSENT
        return outcome is Outcome.UNREACHED and not self.streams and unsent < most

    def _told(self, before: float = 0.0) -> End | None:
        """Tell who watches that a request of several attempts began, so many seconds ago."""
        observer = self._cluster.observer
        if observer is None:
            return None
        return observer.call(self._cluster.balancer.cluster, plain(self.method), before)

    def _key(self, name: str, metadata: Metadata, request: Any) -> str | None:
        asked = None if self.streams else request
        return key_of(metadata, name, self._cluster.key_function, self.method, asked)

    def _seen(self, pick: Pick, unsent: int = 0) -> AttemptEnd | None:
        """Tell who watches that an attempt leaves."""
        cluster = self._cluster
        observer = joined(cluster.observer)
        if observer is None:
            return None
        visit = trail.get()
        return observer.attempt(sent(cluster.balancer, self.method, pick.node, visit, unsent))

    def begin(
        self,
        how: str,
        request: Any,
        timeout: float | None,
        metadata: Metadata,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        """Begin a call and return it at once, if need be before it has left."""
        wanted = self._cluster.balancer.hash_key
        key = None if wanted is None else self._key(wanted, metadata, request)
        labels = wanted_labels()

        def start(left: float | None) -> Any:
            pick = self._cluster.try_place(key, labels)
            if pick is None:
                return None
            try:
                link = pick.transport
                begin = getattr(self.native(link), how)
                there = wait_for_ready and link.by_name  # see ``block``
                call = begin(request, left, metadata, credentials, there, compression)
            except BaseException:
                self._cluster.ended(pick, CANCELLED)
                raise
            self._count(pick, call)
            return call

        call = start(timeout)
        if call is not None:
            return call
        if self._cluster.availability.fails(wait_for_ready, labels):
            return self._cluster.unavailable(labels)
        context = copy_context()  # it will leave from another thread

        def start_later(left: float | None) -> Any:
            return context.copy().run(start, left)

        limit = self._cluster.attempts.limit(self.method, timeout)
        return self._cluster.defer(start_later, limit, wait_for_ready, labels)

    def _count(self, pick: Pick, call: Any) -> None:
        cluster = self._cluster
        ref = weakref.ref(call)
        state = getattr(call, "_state", None)  # without the hook a question finds out
        tell = self._seen(pick)
        untold = [] if tell is None else [tell]  # whoever takes it tells: the end may be said twice

        def end() -> None:
            ended = ref()
            code = _CANCELLED
            if ended is None or ended.cancelled():
                if getattr(state, "initial_metadata", None) is not None:
                    pick.node.heard = True  # it had begun to answer
                cluster.ended(pick, CANCELLED)
            else:
                code = ended.code()
                report = report_of(ended.trailing_metadata())
                cluster.ended(pick, _outcome(code, pick, ended), report)
            if untold:
                try:
                    told = untold.pop()
                except IndexError:  # by another thread, just now
                    return
                told(code.name)

        if not call.add_callback(end):
            end()
        elif self._drop_counts:
            _end_without_callbacks(call, end)


def _exchange_publicly(native: Any, *given: Any) -> Any:
    return native.with_call(*given)


def _end_without_callbacks(call: Any, end: Callable[[], None]) -> None:
    """End the count also when the call is cancelled or dropped and nobody iterates any more."""
    ref = weakref.ref(call)
    cancel_native = type(call).cancel

    def cancel() -> bool:
        held = ref()
        cancelled = held is not None and cancel_native(held)
        end()
        return cancelled

    call.cancel = cancel
    weakref.finalize(call, afterwards, end).atexit = False


def _trailing(call: Any) -> Any:
    """The trailing metadata of a call that has ended; its own method takes a lock to ask that."""
    state = getattr(call, "_state", None)
    trailing = getattr(state, "trailing_metadata", None)
    return call.trailing_metadata() if trailing is None else trailing


def _outcome(code: grpc.StatusCode, pick: Pick, call: Any) -> Outcome:
    if code is _UNAVAILABLE and unreached(pick, code.value[0], call.details(), received(call)):
        return Outcome.UNREACHED
    # Who cancels a call has said so; one that races a GOAWAY ends as CANCELLED all by itself.
    return Outcome.FAILURE if code is _CANCELLED else outcome_of_grpc(code.value[0])


class UnaryUnary(Calls, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # generic in stubs only
    """See ``grpc.UnaryUnaryMultiCallable``."""

    __call__ = Calls.block

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response and the call. Raises ``grpc.RpcError``."""
        return self.block(
            request, timeout, metadata, credentials, wait_for_ready, compression, "with_call"
        )

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The call, which is a future of the response."""
        return self.begin(
            "future", request, timeout, metadata, credentials, wait_for_ready, compression
        )


class UnaryStream(Calls, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]  # generic in stubs only
    """See ``grpc.UnaryStreamMultiCallable``."""

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The call, which is an iterator of the responses."""
        return self.begin(
            "__call__", request, timeout, metadata, credentials, wait_for_ready, compression
        )


class StreamUnary(Calls, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]  # generic in stubs only
    """See ``grpc.StreamUnaryMultiCallable``."""

    streams = True

    def __call__(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response. Raises ``grpc.RpcError``."""
        return self.block(
            request_iterator, timeout, metadata, credentials, wait_for_ready, compression
        )

    def with_call(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The response and the call. Raises ``grpc.RpcError``."""
        return self.block(
            request_iterator,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
            "with_call",
        )

    def future(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The call, which is a future of the response."""
        return self.begin(
            "future", request_iterator, timeout, metadata, credentials, wait_for_ready, compression
        )


class StreamStream(Calls, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]  # generic in stubs only
    """See ``grpc.StreamStreamMultiCallable``."""

    streams = True

    def __call__(
        self,
        request_iterator: Iterator[Any],
        timeout: float | None = None,
        metadata: Metadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """The call, which is an iterator of the responses."""
        return self.begin(
            "__call__",
            request_iterator,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )
