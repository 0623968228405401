"""For ASGI applications: load reports in a response header (``Drain``: see ``asgi_drain``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trimtab.load_codec import HEADER
from trimtab.server.asgi_drain import Drain
from trimtab.server.server_load import ServerLoad

__all__ = ["Drain", "LoadReports"]

_NAME = HEADER.encode()
_SERVER_ERROR = 500

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class LoadReports:
    """Says the server's load with each HTTP response, in the header ``endpoint-load-metrics``.

    ``app = LoadReports(app)``. Headers leave before the body, so the report tells what was there
    then, the request itself left out. WebSockets and lifespan events pass by. An application that
    sends a report of its own is left alone.

    Args:
        app: the ASGI application.
        load: what to say; several applications and servers of one process share one.
    """

    def __init__(self, app: App, load: ServerLoad | None = None) -> None:
        self._app = app
        self.load = load or ServerLoad()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Called by the ASGI server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        load = self.load
        answered: int | None = None

        async def report(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = list(message.get("headers", ()))
                if not any(bytes(name).lower() == _NAME for name, _ in headers):
                    headers.append((_NAME, load.report(without=1).text.encode()))
                message = {**message, "headers": headers}
            await send(message)

        begun = load.clock()
        found = load.begin()
        raised: BaseException | None = None
        try:
            await self._app(scope, receive, report)
        except BaseException as problem:
            raised = problem
            raise
        finally:
            failed = isinstance(raised, Exception) or (answered or 0) >= _SERVER_ERROR
            left = raised is not None and not failed  # cancelled: its caller went
            if isinstance(raised, GeneratorExit):
                load.give_up(found, failed=failed)
            else:
                load.end(found, None if left else load.clock() - begun, failed=failed)
