"""The end of an ASGI server that loses no request. The server does the stopping; this says when."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

from trimtab.server.drain import PROPAGATION_S, SIGNALS, begin, listening
from trimtab.server.readiness import Readiness

_App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
_CLOSE = (b"connection", b"close")


class Drain:
    """Keeps an ASGI server from stopping before everybody knows that it will.

    For servers that are started from Python and told when to stop, such as Hypercorn::

        drain = Drain(readiness)
        config.graceful_timeout = 30  # for requests in flight, in seconds
        await serve(drain.asgi(readiness.asgi(app)), config, shutdown_trigger=drain.until_signal)

    Others: await ``until_signal()``, then stop the server in its own way.

    Args:
        readiness: ended first: it is not ready, and stays so.
        propagation_s: how long new requests are still taken [s]; see ``drain``.
        signals: what begins it.
    """

    def __init__(
        self,
        readiness: Readiness,
        *,
        propagation_s: float = PROPAGATION_S,
        signals: Sequence[signal.Signals] = SIGNALS,
    ) -> None:
        self._readiness = readiness
        self._propagation_s = propagation_s
        self._signals = signals
        self._draining = False

    async def until_signal(self) -> None:
        """Wait for a signal, say not ready, wait for the news to spread: now the server may stop."""
        with listening(self._signals) as told:
            await told.wait()
            self._draining = True
            begin(self._readiness, self._propagation_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._propagation_s):
                    await asyncio.Event().wait()

    def asgi(self, app: _App) -> _App:
        """ASGI middleware: while it drains, HTTP/1.1 responses say that their connection ends.

        Else a client could send its next request on a connection that the server is closing. With
        HTTP/2 the server tells its clients by itself (GOAWAY).
        """

        async def closing(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope.get("http_version") not in {"1.0", "1.1"}:
                await app(scope, receive, send)
                return

            async def close(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start" and self._draining:
                    headers = [h for h in message.get("headers", ()) if h[0].lower() != _CLOSE[0]]
                    message = {**message, "headers": [*headers, _CLOSE]}
                await send(message)

            await app(scope, receive, close)

        return closing
