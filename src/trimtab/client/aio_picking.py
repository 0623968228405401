"""The asyncio channel's hot path: gRPC's own channel class over an object that picks.

gRPC's multicallables ask one native object, cygrpc's ``AioChannel``, for a call. ``Picker`` stands
in its place: it picks an endpoint and lets that endpoint's ``AioChannel`` make the call. So the
pick is below the caller's interceptors, a retry picks anew, and calls are gRPC's own objects
(with one request and one response: of a subclass, see ``aio_unsent``).

The names used are private; ``missing_hook`` says at import whether they are what this module
expects, and ``aio_public`` stands in if they are not.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import grpc
import grpc.aio

from trimtab.attempt import outcome_of_grpc, report_of
from trimtab.attempt.course import MOST_UNSENT
from trimtab.balancer import Pick
from trimtab.client.aio_cluster import AioCluster, AioLink
from trimtab.client.aio_face import Face
from trimtab.client.aio_interceptors import Gate, Interceptors, missing_in_calls
from trimtab.client.aio_patience import (
    StreamStreamCalls,
    StreamUnaryCalls,
    UnaryStreamCalls,
    missing_in_streams,
)
from trimtab.client.aio_unsent import UnaryUnaryCalls, missing_in_unary
from trimtab.client.attempts import sent, trail
from trimtab.client.call_details import WANTED, joined
from trimtab.client.channel_spec import ChannelSpec
from trimtab.client.forking import FORKED, watch_forks
from trimtab.client.gone_channel import GONE, refuse
from trimtab.client.instrumented import interceptor_lists
from trimtab.client.native_channels import own
from trimtab.client.observing import AttemptEnd, End, name_of, plain
from trimtab.client.request_key import key_of
from trimtab.client.request_labels import wanted_labels
from trimtab.client.unreached import unreached
from trimtab.policies import CANCELLED, SUCCESS, Outcome

_native: Any = importlib.import_module("grpc.aio._channel")
_interceptors: Any = importlib.import_module("grpc.aio._interceptor")
_cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")

_LISTS = (
    "_unary_unary_interceptors",
    "_unary_stream_interceptors",
    "_stream_unary_interceptors",
    "_stream_stream_interceptors",
)
_CANCELLED = grpc.StatusCode.CANCELLED.value[0]
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]
_OVER = (
    -1
)  # earlier releases of gRPC tell the end of a call twice if its channel's end cancelled it
_CANCELLED_BY_CLOSE = "Locally cancelled by application!"


def missing_hook() -> str:
    """The first private name of gRPC that is not as this module needs it; "" if all are."""
    for owner, name in (
        (_native, "Channel"),
        (_cygrpc, "AioChannel"),
        (_cygrpc, "_AioCall"),
        (_interceptors, "InterceptedCall"),
    ):
        if not hasattr(owner, name):
            return f"{owner.__name__}.{name}"
    for name in ("add_done_callback", "cancel", "is_locally_cancelled", "_status"):
        if not hasattr(_cygrpc._AioCall, name):  # noqa: SLF001 - as above
            return f"cygrpc._AioCall.{name}"
    known = _native.Channel.__init__.__code__.co_names
    for name in (*_LISTS, "_channel"):
        if name not in known:
            return f"grpc.aio._channel.Channel.{name}"
    parameters = list(inspect.signature(_cygrpc.AioChannel.call).parameters)
    if parameters[:5] != [
        "self",
        "method",
        "deadline",
        "python_call_credentials",
        "wait_for_ready",
    ]:
        return f"cygrpc.AioChannel.call{parameters}"
    return missing_in_calls(_native) or missing_in_unary() or missing_in_streams()


_TAKES_HANDLE = (
    not missing_hook() and len(inspect.signature(_cygrpc.AioChannel.call).parameters) > 5  # noqa: PLR2004
)


class PickingLink(AioLink):
    """A link with what the hot path needs of its native channel.

    Attributes:
        call: the native ``AioChannel.call``.
        handles: this channel's handles of methods that generated code registered.
    """

    __slots__ = ("_native", "call", "handles")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self._native: Any = channel._channel  # type: ignore[attr-defined]  # noqa: SLF001 - the hook
        self.call: Any = self._native.call
        self.handles: dict[bytes, int] = {}

    def let_go(self) -> None:
        """See ``AioLink``."""
        super().let_go()
        self._native, self.call = GONE, refuse

    def handle(self, method: bytes) -> int:
        """The handle of a method seen for the first time; handles belong to one channel."""
        handle: int = self._native.get_registered_call_handle(method)
        self.handles[method] = handle
        return handle


def outcome_of(code: int, call: Any) -> Outcome:
    """What an error says of the endpoint.

    A call that races a GOAWAY ends as CANCELLED without anybody having cancelled it.
    """
    if code == _CANCELLED and not call.is_locally_cancelled():
        return Outcome.FAILURE
    return outcome_of_grpc(code)


class Picker:
    """What gRPC's multicallables take for a native channel.

    Attributes:
        unsent: the native call whose end is being told, if it provably reached nobody, and another endpoint
            is connected or it waits for ready.
        left: when that one's endpoint was chosen [s, monotonic].
    """

    __slots__ = (
        "_balancer",
        "_clock",
        "_closed",
        "_cluster",
        "_end_soon",
        "_finish",
        "_links",
        "_observer",
        "_pick",
        "left",
        "unsent",
    )

    def __init__(self, cluster: AioCluster) -> None:
        self._cluster = cluster
        self._links = cluster.links
        self._balancer = cluster.balancer
        self._pick = cluster.balancer.pick
        self._finish = cluster.balancer.finish
        self._end_soon = cluster.balancer.ends.append
        self._clock = cluster.clock
        self._observer = cluster.observer
        self._closed = False
        self.unsent: Any = None
        self.left = 0.0

    def call(
        self,
        method: bytes,
        deadline: float | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        handle: int | None = 0,
        unsent: int = -1,
        *,
        there: bool = False,
    ) -> Any:
        """Pick an endpoint and make the native call there, which doesn't wait for that one alone: see ``aio_patience``.

        ``unsent`` is how often a call that can leave again, see ``aio_unsent``, did so; -1: it can't. ``there``: it
        does wait for that one, as a last resort.
        """
        if self._closed:
            raise grpc.aio.UsageError(self._cluster.closed_text)
        balancer = self._balancer
        key = None if balancer.hash_key is None else key_of(None, "")
        visit = trail.get()
        if visit is None:
            pick = self._pick(key, wanted_labels())
        else:
            pick = balancer.pick_apart(visit.been, key, wanted_labels())
            visit.at(pick)
        link: PickingLink = pick.transport
        if len(link.open) >= link.room:
            link = pick.transport = self._links.roomier(pick.node, link)
        link.open.add(pick)
        try:
            if handle:
                handle = link.handles.get(method) or link.handle(method)
                call = link.call(
                    method,
                    deadline,
                    credentials,
                    wait_for_ready and (there or link.by_name),
                    handle,
                )
            else:
                call = link.call(
                    method, deadline, credentials, wait_for_ready and (there or link.by_name)
                )
        except BaseException:
            pick.finish(CANCELLED)
            self._links.ended(pick)
            raise
        # The native call and never the Python one, so that a call which the caller drops is cancelled
        # by gRPC as ever. It refers to the pick until it has its status.
        pick.call = call
        observer = joined(self._observer) if WANTED.now else self._observer
        if observer is None:
            call.add_done_callback(partial(self._ended, pick, wait_for_ready))
        else:
            end = observer.attempt(sent(balancer, method, pick.node, visit, max(unsent, 0)))
            call.add_done_callback(partial(self._seen, pick, wait_for_ready, end, unsent))
        if balancer.probing:
            self._cluster.probes.send()
        return call

    def _ended(self, pick: Pick, waits: bool | None, *, soon: bool = True) -> int:
        """A call has its status: its code; _OVER if it is known.

        What is cancelled here is counted ``soon``, on the loop: it may be garbage, which is collected in any thread and
        in the middle of anything.
        """
        call = pick.call
        if call is None:
            return _OVER
        status = call._status  # noqa: SLF001 - the hook
        code: int = status.code()
        if soon and code == _CANCELLED and call.is_locally_cancelled():
            self._cluster.soon(partial(self._ended, pick, waits, soon=False))
            return code
        pick.call = None  # leave no cycle
        outcome = SUCCESS
        if code:
            lost = code == _UNAVAILABLE and self._is_unreached(pick, call)
            outcome = Outcome.UNREACHED if lost else outcome_of(code, call)
            self._finish(pick, outcome, report_of(status.trailing_metadata()))
        else:
            self._end_soon((pick, self._clock(), status.trailing_metadata()))
        link = pick.transport
        link.open.discard(pick)
        if link.leaving:
            self._links.ended(pick)
        if outcome is Outcome.UNREACHED:
            self._cluster.stand(pick.node, link)
            self.unsent = call if waits or self._balancer.connected else None
            self.left = pick.started
        return code

    def _seen(
        self, pick: Pick, waits: bool | None, end: AttemptEnd, unsent: int, *, soon: bool = True
    ) -> None:
        """The same, for somebody who watches."""
        call = pick.call
        if soon and call is not None and call.is_locally_cancelled():
            self._cluster.soon(partial(self._seen, pick, waits, end, unsent, soon=False))
            return
        code = self._ended(pick, waits, soon=False)
        if code != _OVER:
            again = unsent >= 0 and (waits or unsent < MOST_UNSENT)
            end(name_of(code), more=again and self.unsent is call)

    @property
    def choices(self) -> int:
        """See ``Balancer``."""
        return self._balancer.choices

    def must_wait(self, unsent: int) -> bool:
        """Whether a call that waits for ready, and reached nobody so often, had better stay where it goes now.

        Nobody else is connected, or each time somebody seemed to be he was not.
        """
        return unsent > MOST_UNSENT or not self._balancer.connected

    def several(self, method: bytes) -> End | None:
        """Tell who watches that ``unsent`` is the first attempt of several."""
        if self._observer is None:
            return None
        before = self._clock() - self.left
        return self._observer.call(self._balancer.cluster, plain(method), before)

    @staticmethod
    def _is_unreached(pick: Pick, call: Any) -> bool:
        """Whether a call that ended as UNAVAILABLE provably reached nobody."""
        initial, details = call._initial_metadata, call._status.details()  # noqa: SLF001 - the hook
        return unreached(pick, _UNAVAILABLE, details, initial)

    def get_registered_call_handle(self, method: bytes) -> int:  # noqa: ARG002 - gRPC's signature
        """Whether to register is all that is known before the pick."""
        return 1 if _TAKES_HANDLE else 0

    def closing(self) -> None:
        """Let no new call leave."""
        self._closed = True

    def forked(self) -> None:
        """See ``forking.Copied``: each call fails with the reason."""
        self._cluster.closed_text = FORKED
        self._closed = True

    def closed(self) -> bool:
        """Whether no call may leave."""
        return self._closed

    def close(self) -> None:
        """The channel was dropped."""
        self._closed = True
        self._cluster.abandon()


class PickingChannel(Face, _native.Channel):  # type: ignore[misc]  # gRPC has no types here
    """A ``grpc.aio.Channel`` that sends each call to the endpoint that the policy picks."""

    def __init__(
        self, spec: ChannelSpec, interceptors: Sequence[grpc.aio.ClientInterceptor] | None
    ) -> None:
        # gRPC sorts the interceptors and refuses bad options; the channel that it opens for this
        # is never connected.
        super().__init__(
            "ipv4:127.0.0.1:1",
            spec.options,
            own(spec.credentials),
            spec.compression,
            interceptors,
        )
        unused: Any = self._channel
        unused.close()
        lists = interceptor_lists(spec, interceptors, self, _LISTS)
        for name, found in zip(_LISTS, lists, strict=True):
            setattr(self, name, Interceptors(found))
        gate = self._gate = Gate([getattr(self, name) for name in _LISTS])
        self._cluster = AioCluster(spec, self._loop, PickingLink, gate)
        self._picker = Picker(self._cluster)
        self._channel: Any = self._picker
        self._calls: weakref.WeakSet[grpc.aio.Call] = weakref.WeakSet()
        gate.start(self._cluster)
        self._cluster.start()
        watch_forks(self)

    def unary_unary(self, *given: Any, **more: Any) -> Any:
        """See ``grpc.aio.Channel``."""
        made = super().unary_unary(*given, **more)
        made.__class__ = UnaryUnaryCalls
        return self._gate.made(0, made)

    def unary_stream(self, *given: Any, **more: Any) -> Any:
        """See ``grpc.aio.Channel``."""
        made = super().unary_stream(*given, **more)
        made.__class__ = UnaryStreamCalls
        return self._gate.made(1, made)

    def stream_unary(self, *given: Any, **more: Any) -> Any:
        """See ``grpc.aio.Channel``."""
        made = super().stream_unary(*given, **more)
        made.__class__ = StreamUnaryCalls
        return self._gate.made(2, made)

    def stream_stream(self, *given: Any, **more: Any) -> Any:
        """See ``grpc.aio.Channel``."""
        made = super().stream_stream(*given, **more)
        made.__class__ = StreamStreamCalls
        return self._gate.made(3, made)

    def forked(self) -> None:
        """See ``forking.Copied``: each call fails at once, since the loop is the parent's, too."""
        self._picker.forked()
        self._gate.clear()

    def _register_call(self, call: grpc.aio.Call) -> None:
        """Remember calls that ``close`` must cancel as a whole; ``UnaryUnaryCall`` ends with its attempt.

        gRPC's own method adds a callback which keeps a dropped stream alive (grpc/grpc#43462).
        """
        self._calls.add(call)

    async def _close(self, grace: float | None) -> None:
        if self._picker.closed():
            return
        if grace and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        self._picker.closing()
        self._gate.close()
        self._cluster.close()
        if grace:
            await _all_ended(self._cluster.placed(), grace)
        for call in list(self._calls):
            call.cancel()
        for pick in self._cluster.placed():
            if pick.call is not None and not pick.call.done():
                pick.call.cancel(_CANCELLED_BY_CLOSE)
        await self._cluster.release_all()


async def _all_ended(picks: Iterable[Pick], within: float) -> None:
    """Wait until the calls of all these have ended, at most ``within`` seconds."""
    ended = asyncio.Event()
    left = {pick.call for pick in picks if pick.call is not None}
    if not left:
        return

    def end(call: Any) -> None:
        left.discard(call)
        if not left:
            ended.set()

    for call in tuple(left):
        call.add_done_callback(lambda call=call: end(call))
    try:
        async with asyncio.timeout(within):
            await ended.wait()
    except TimeoutError:
        return
