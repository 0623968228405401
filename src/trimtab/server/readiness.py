"""Whether a server wants traffic, and who is told: grpc.health.v1, and an HTTP path."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Event, get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, cast

import grpc
import grpc.aio

from trimtab.server.readiness_watch import Watches

_SERVICE = "grpc.health.v1.Health"
# HealthCheckResponse with its one field, status (grpc/health/v1/health.proto).
_SERVING = b"\x08\x01"
_NOT_SERVING = b"\x08\x02"

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Any, Any], Awaitable[None]]


class Readiness:
    """Whether this process wants traffic: no until ``ready`` is set, no again once it drains.

    Give it to every server of the process that Kubernetes probes, or that clients ask. The answer
    is the same for every service name. May be used from any thread, but not out of a signal handler: who watches is
    told by means that the interrupted code may be in the middle of (``serve_until_signal`` takes care of that).
    """

    def __init__(self) -> None:
        self._wanted = False
        self._ended = False
        # No lock: a watch ends where its garbage is collected, which may be anywhere. A dictionary's single steps
        # are atomic, and so is a list of its keys.
        self._changed: dict[Callable[[], None], None] = {}

    @property
    def ready(self) -> bool:
        """Whether traffic is wanted."""
        return self._wanted and not self._ended

    @ready.setter
    def ready(self, wanted: bool) -> None:
        self._wanted = wanted
        for tell in list(self._changed):
            tell()

    def end(self) -> None:
        """Not ready from now on, even if a warm-up ends later."""
        self._ended = True
        self.ready = False

    def add_to(self, server: grpc.Server | grpc.aio.Server, *, watch_threads: int = 0) -> None:
        """Answer ``grpc.health.v1.Health`` (Check and Watch) at ``server``, not started yet.

        In a ``grpc.server`` no ``Watch`` holds one of its threads, unless an interceptor wraps the
        handler: then each would, for as long as it listens.

        Args:
            server: of either kind.
            watch_threads: how many of a ``grpc.server``'s threads such wrapped watches may hold. The
                watches beyond are ``UNIMPLEMENTED``, which gRPC's clients take for healthy.

        Raises:
            ValueError: ``watch_threads`` is no number from 0.
        """
        on_loop = isinstance(server, grpc.aio.Server)
        check: Any = self._check_on_loop if on_loop else self._check
        watch: Any = (
            self._watch_on_loop if on_loop else Watches(self._answer, self._listen, watch_threads)
        )
        handlers: dict[str, Any] = {
            "Check": grpc.unary_unary_rpc_method_handler(check),
            "Watch": grpc.unary_stream_rpc_method_handler(watch),
        }
        service = grpc.method_handlers_generic_handler(_SERVICE, handlers)
        server.add_generic_rpc_handlers((service,))

    def asgi(self, app: _App, path: str = "/readyz") -> _App:
        """ASGI middleware that answers ``path`` with 200 or 503, and passes the rest to ``app``."""

        async def ready_or_app(scope: _Scope, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["path"] != path:
                await app(scope, receive, send)
                return
            status, text = self.http()
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": text.encode()})

        return ready_or_app

    def http(self) -> tuple[int, str]:
        """Status and text for an HTTP readiness path of any framework."""
        return (200, "ready\n") if self.ready else (503, "not ready\n")

    def _listen(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call ``tell``, which must not block, whenever ``ready`` is set; what is returned ends it."""
        self._changed[tell] = None

        def forget() -> None:
            self._changed.pop(tell, None)

        return forget

    def _answer(self) -> bytes:
        return _SERVING if self.ready else _NOT_SERVING

    def _check(self, _request: bytes, _context: Any) -> bytes:
        return self._answer()

    async def _check_on_loop(self, _request: bytes, _context: Any) -> bytes:
        return self._answer()

    async def _watch_on_loop(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        changed, loop = Event(), get_running_loop()

        def tell() -> None:
            _call(loop, changed.set)

        forget = self._listen(tell)
        try:
            while True:
                changed.clear()
                yield self._answer()
                await changed.wait()
        finally:
            forget()


def _call(loop: AbstractEventLoop, what: Callable[[], object]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(cast("Callable[[], None]", what))
