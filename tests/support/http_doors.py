"""The HTTP clients with a transport of ours, behind one face: tests run through all of them."""

import asyncio
from dataclasses import dataclass, field

import aiohttp
import httpx
import httpx2

import trimtab.aiohttp
import trimtab.httpx
import trimtab.httpx2


@dataclass
class Answer:
    """What a caller has of a response."""

    status: int
    seen: dict
    url: str
    headers: dict = field(default_factory=dict)


class _Async:
    redirects = False

    def __init__(self, redirects=False, timeout=5.0, **arguments):
        self.transport = self.transports.AsyncTransport(**arguments)
        self._client = self.library.AsyncClient(
            transport=self.transport, follow_redirects=redirects, timeout=timeout
        )
        self.errors = (self.library.TransportError,)

    async def send(self, method, url, **how):
        response = await self._client.request(method, url, **how)
        return Answer(response.status_code, _seen(response), str(response.url), response.headers)

    async def begin(self, url):
        """A response whose body is not read; call ``aclose`` of what comes back."""
        request = self._client.build_request("GET", url)
        return await self._client.send(request, stream=True)

    async def close(self):
        await self._client.aclose()


class HttpxAsync(_Async):
    library, transports = httpx, trimtab.httpx


class Httpx2Async(_Async):
    library, transports = httpx2, trimtab.httpx2


class _Sync:
    def __init__(self, redirects=False, timeout=5.0, **arguments):
        self.transport = self.transports.Transport(**arguments)
        self._client = self.library.Client(
            transport=self.transport, follow_redirects=redirects, timeout=timeout
        )
        self.errors = (self.library.TransportError,)

    async def send(self, method, url, **how):
        response = await asyncio.to_thread(self._client.request, method, url, **how)
        return Answer(response.status_code, _seen(response), str(response.url), response.headers)

    async def begin(self, url):
        request = self._client.build_request("GET", url)
        response = await asyncio.to_thread(self._client.send, request, stream=True)
        return _Closing(response)

    async def close(self):
        await asyncio.to_thread(self._client.close)


class _Closing:
    def __init__(self, response):
        self._response = response

    async def aclose(self):
        await asyncio.to_thread(self._response.close)


class HttpxSync(_Sync):
    library, transports = httpx, trimtab.httpx


class Httpx2Sync(_Sync):
    library, transports = httpx2, trimtab.httpx2


class Aiohttp:
    def __init__(self, redirects=False, timeout=5.0, verify=None, **arguments):
        self.transport = trimtab.aiohttp.Middleware(patience_s=timeout, **arguments)
        self._verify = True if verify is None else verify
        self._redirects = redirects
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=1)
        self._session = None
        self.errors = (aiohttp.ClientError, TimeoutError)

    def _get(self):
        if self._session is None:
            self._session = aiohttp.ClientSession(
                middlewares=[self.transport], timeout=self._timeout
            )
        return self._session

    async def send(self, method, url, content=None, **how):
        async with self._get().request(
            method, url, data=content, allow_redirects=self._redirects, ssl=self._verify, **how
        ) as response:
            text = await response.text()
            seen = await response.json(content_type=None) if text.startswith("{") else {}
            return Answer(response.status, seen, str(response.url), response.headers)

    async def begin(self, url):
        response = await self._get().get(url)
        return _Releasing(response)

    async def close(self):
        if self._session is not None:
            await self._session.close()
        await self.transport.close()


class _Releasing:
    def __init__(self, response):
        self._response = response

    async def aclose(self):
        self._response.close()


def _seen(response):
    return response.json() if response.text.startswith("{") else {}


DOORS = (HttpxAsync, HttpxSync, Httpx2Async, Httpx2Sync, Aiohttp)
