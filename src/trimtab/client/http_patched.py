"""A request of ours through whatever others have put in the place of the library's own function.

Test suites replace the function with which httpx's transport sends a request (pytest-httpx does, and ``monkeypatch``
in many hands). Such a replacement answers a balanced request as it answers any other, with the URL that the caller
wrote and before an endpoint is picked. Where it calls what it replaced, the request is sent to an endpoint: it is
called on a transport of the library's whose pool is one of these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any


class _Pool:
    """What the library's own function asks.

    Args:
        library: httpx or httpx2.
        send: sends one of its requests.
    """

    def __init__(self, library: Any, send: Callable[[Any], Any]) -> None:
        self._library = library
        self._send = send

    def _request(self, core: Any) -> Any:
        """The library's request from the one that is below it, which the replacement may have changed."""
        url, named = core.url, "target" in core.extensions  # what goes before the URL's path, below
        scheme, host = url.scheme.decode("ascii"), url.host.decode("ascii")
        place = f"[{host}]" if ":" in host else host
        port = "" if url.port is None else f":{url.port}"
        return self._library.Request(
            core.method.decode("ascii"),
            f"{scheme}://{place}{port}{'/' if named else url.target.decode('ascii')}",
            headers=core.headers,
            stream=core.stream,
            extensions=core.extensions,
        )


def _response(answer: Any) -> Any:
    return SimpleNamespace(
        status=answer.status_code,
        headers=answer.headers.raw,
        stream=answer.stream,
        extensions=answer.extensions,
    )


class _AsyncPool(_Pool):
    async def handle_async_request(self, core: Any) -> Any:
        return _response(await self._send(self._request(core)))


class _SyncPool(_Pool):
    def handle_request(self, core: Any) -> Any:
        return _response(self._send(self._request(core)))


def through_async(
    transport: Any, library: Any, send: Callable[[Any], Awaitable[Any]], request: Any
) -> Awaitable[Any]:
    """What the function of the library's ``transport`` gives that is there now; see the module."""
    asked = transport.__new__(transport)
    asked._pool = _AsyncPool(library, send)  # noqa: SLF001 - what the library's function asks
    return asked.handle_async_request(request)  # type: ignore[no-any-return]


def through_sync(transport: Any, library: Any, send: Callable[[Any], Any], request: Any) -> Any:
    """As ``through_async``."""
    asked = transport.__new__(transport)
    asked._pool = _SyncPool(library, send)  # noqa: SLF001 - what the library's function asks
    return asked.handle_request(request)
