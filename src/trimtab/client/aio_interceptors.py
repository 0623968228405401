"""Which interceptors an asyncio call passes through before its pick: none, if it can leave at once.

The names used are private to gRPC; ``aio_picking.missing_hook`` looks whether they are there.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from trimtab.attempt import KeepingSerializer
from trimtab.client.aio_attempts import Retrying
from trimtab.client.aio_cluster import AioCluster
from trimtab.client.aio_request_attempts import RetryingExchanges, RetryingRequests
from trimtab.client.aio_stream_attempts import RetryingStreams
from trimtab.client.aio_waiting import Waiting
from trimtab.client.attempts import Attempts
from trimtab.client.request_labels import wanted_labels


def missing_in_calls(native: Any) -> str:
    """The first private name of gRPC's multicallables that ``Gate`` misses; "" if there is none."""
    for kind in ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"):
        found = getattr(native, f"{kind}MultiCallable", None)
        for name in ("_interceptors", "_method", "_request_serializer"):
            if found is None or name not in found.__init__.__code__.co_names:
                return f"grpc.aio._channel.{kind}MultiCallable.{name}"
    return ""


RETRYING = (Retrying, RetryingStreams, RetryingRequests, RetryingExchanges)
"""What makes further attempts, by arity, as gRPC orders its lists."""
_STREAMED = 2  # the first one whose request is a stream


class Interceptors(list[Any]):
    """One of gRPC's lists of interceptors, the waiting one last.

    Multicallables hold these very lists and look whether they are empty. Calls that can leave at
    once are told so, and pay next to nothing. Below the caller's interceptors the waiting one
    stays, since they may take their time, and for calls that want labels, since those that have
    them may not be ready when others are.

    Attributes:
        direct: whether calls can leave at once.
    """

    direct = False

    def __bool__(self) -> bool:
        """Whether a call has to pass through them."""
        n = len(self)
        return n > 1 or (n == 1 and (not self.direct or wanted_labels() is not None))


class Gate:
    """Puts our interceptors into gRPC's lists, and says when they can be passed by.

    Multicallables whose method may run more than once hold another list, in which what makes further
    attempts stands just before the waiting one. So calls of which nothing is declared don't pass through it,
    unless they wait for ready: see ``aio_patience``.
    It knows the lists, and the multicallables weakly, but not the channel, which can be dropped while
    endpoints are followed.

    Args:
        lists: by arity, as gRPC has them, of the caller's interceptors.
    """

    _attempts: Attempts

    def __init__(self, lists: Sequence[Interceptors]) -> None:
        self._once = lists
        self._again: list[Interceptors] = []
        self._made: tuple[weakref.WeakSet[Any], ...] = tuple(weakref.WeakSet() for _ in RETRYING)

    def start(self, cluster: AioCluster) -> None:
        """Nothing can leave yet."""
        waiting = Waiting(cluster)
        self._attempts = attempts = cluster.attempts
        told = (attempts, cluster.clock, cluster.balancer.cluster, cluster.observer)
        for own, kind in zip(self._once, RETRYING, strict=True):
            self._again.append(Interceptors([*own, kind(*told), waiting]))
        cluster.followed = self._sort
        for interceptors in self._once:
            interceptors.append(waiting)

    def made(self, arity: int, calls: Any) -> Any:
        """A multicallable was made; ``arity`` is the place of its list."""
        self._made[arity].add(calls)
        calls.again = self._again[arity]
        if arity >= _STREAMED:
            plain = calls._request_serializer  # noqa: SLF001 - the hook
            calls._request_serializer = KeepingSerializer(plain)  # noqa: SLF001 - likewise
        self._place(self._attempts, arity, calls)
        return calls

    def _sort(self) -> None:
        """The Service may have said something else."""
        for arity, made in enumerate(self._made):
            for calls in made:
                self._place(self._attempts, arity, calls)

    def _place(self, attempts: Attempts, arity: int, calls: Any) -> None:
        once = self._once[arity]
        # The caller's own interceptors may name another method, or have the call wait for ready; what holds
        # then is asked below them.
        again = len(once) > 1 or attempts.follows(calls._method.decode(), None)  # noqa: SLF001
        calls._interceptors = self._again[arity] if again else once  # noqa: SLF001 - the hook

    def clear(self) -> None:
        """Let calls through to where they are refused."""
        for interceptors in (*self._once, *self._again):
            interceptors.clear()

    def close(self) -> None:
        """Let calls that pass through our interceptors alone be refused where they are made, as gRPC's are."""
        for arity, once in enumerate(self._once):
            if len(once) == 1:
                once.clear()
                for again in self._again[arity : arity + 1]:
                    again.clear()

    def __call__(self, ready: bool) -> None:
        """Whether calls can leave at once."""
        for interceptors in self._once:
            interceptors.direct = ready
