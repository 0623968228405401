"""A request on its way to an endpoint, as aiohttp has it: the same request, whose URL is the endpoint's meanwhile."""

from __future__ import annotations

import asyncio
from copy import copy
from functools import lru_cache
from typing import Any

from aiohttp import ClientRequest, ClientResponse
from aiohttp.helpers import TimerNoop
from yarl import URL

_MOST_URLS = 1024  # times endpoints, that are kept


@lru_cache(_MOST_URLS)
def steered(url: URL, host: str, port: int) -> URL:
    """The same path elsewhere, as it was encoded. A URL keeps what it has worked out of itself."""
    return URL.build(
        scheme=url.scheme,
        host=f"[{host}]" if ":" in host else host,
        port=port,
        path=url.raw_path,
        query_string=url.raw_query_string,
        encoded=True,
    )


def told_of(response: Any, url: URL) -> ClientResponse:
    """A response that says what the caller asked for, and not where it was sent."""
    info = getattr(response, "_request_info", None)  # there is no public way
    if info is not None:
        # As aiohttp makes it; ``_replace`` takes three times as long.
        response._request_info = tuple.__new__(type(info), (url, *info[1:]))  # noqa: SLF001
    return response  # type: ignore[no-any-return]


def own(request: ClientRequest) -> ClientRequest:
    """A request for one of several attempts: sending it makes it that attempt's."""
    made = copy(request)
    # The session's timer is for one task. It goes on being the caller's, whose end is the attempts'.
    made._timer = TimerNoop()  # noqa: SLF001 - there is no public way
    return made


def expect_anew(request: ClientRequest) -> None:
    """See that this attempt waits for a ``100 Continue`` of its own, where the caller wants one.

    An answer in its place, to the attempt before, has cancelled that one's wait.
    """
    if request._continue is not None:  # noqa: SLF001 - as above
        request._continue = asyncio.get_running_loop().create_future()  # noqa: SLF001
