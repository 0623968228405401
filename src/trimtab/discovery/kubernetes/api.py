"""Requests to an API server: lists, page by page, and watches, chunk by chunk.

Nothing is tried again here but a request refused with 401, once, with fresh credentials. What goes
wrong becomes an ``ApiError`` whose text says what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import math
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from importlib import metadata

import aiohttp

from trimtab.discovery.kubernetes.access import Access, without_secrets
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.discovery.kubernetes.wire import (
    Failure,
    Page,
    Resource,
    decode_failure,
    decode_heads,
    decode_page,
)
from trimtab.errors import DiscoveryError, ProtocolError

_MAX_REFUSAL = 64 << 10  # bytes of an error's body that are read
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _THROTTLED = 200, 401, 403, 404, 429
_REDIRECTS = range(300, 400)
_WHOLE = "application/json"
# A server that can't cut objects down to their metadata sends them whole, which is read as well.
_HEADS = f"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{_WHOLE}"


class ApiError(DiscoveryError):
    """A request to the API server failed; it may be tried again later.

    Attributes:
        reason: a metric's label, from a bounded set.
        retry_after: how long the server asked to wait [s]; None if it did not.
    """

    def __init__(self, text: str, *, reason: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry_after = retry_after


class Expired(ApiError):  # noqa: N818 - the API's own word
    """The version is not to be had any more (410), or not yet: only a new list helps."""

    def __init__(self, text: str, *, retry_after: float | None = None) -> None:
        super().__init__(text, reason="expired", retry_after=retry_after)


@dataclass(frozen=True, slots=True)
class Target:
    """What is listed and watched.

    Attributes:
        resource: the kind of object.
        namespace: whose; "" means all.
        selector: a label selector, "" for none.
    """

    resource: Resource
    namespace: str = ""
    selector: str = ""

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.resource.plural}{where}"


class Api:
    """One API server.

    Args:
        access: where it is, and the credentials.
        session: the connections.
        timing: how long to wait for what.
        wall: the wall clock [Unix seconds], for a ``Retry-After`` with a date.
    """

    def __init__(
        self,
        access: Access,
        session: aiohttp.ClientSession,
        timing: Timing,
        wall: Callable[[], float],
    ) -> None:
        self._access = access
        self._session = session
        self._timing = timing
        self._wall = wall
        self._agent = f"trimtab/{metadata.version('trimtab')}"

    async def pages(
        self, target: Target, *, exactly: str = "", heads: bool = False
    ) -> AsyncGenerator[Page]:
        """A list, page by page, all of one moment.

        Without ``exactly`` it is of now (a consistent read); the pages after the first carry the
        first one's moment in their token.

        Args:
            target: what to list.
            exactly: the resourceVersion whose state is wanted.
            heads: only which objects there are, in which version: no more of them is asked for.

        Raises:
            ApiError: ``Expired`` if that moment is not to be had any more.
        """
        decode, accept = (decode_heads, _HEADS) if heads else (decode_page, _WHOLE)
        wanted = {"limit": str(self._timing.page_size)}
        if target.selector:
            wanted["labelSelector"] = target.selector
        first = {"resourceVersion": exactly, "resourceVersionMatch": "Exact"} if exactly else {}
        token = ""
        while True:
            params = {**wanted, "continue": token} if token else {**wanted, **first}
            async with self._open("list", target, params, accept) as response:
                try:
                    async with asyncio.timeout(self._timing.list_s):
                        body = await response.read()
                except (aiohttp.ClientError, OSError) as error:
                    raise self._lost(target, error) from error
            try:
                page = decode(target.resource, body)
            except ProtocolError as error:
                raise ApiError(f"{self._access.server}: {error}", reason="garbage") from None
            yield page
            if not page.next:
                return
            if page.next == token:
                raise ApiError(
                    f"{self._access.server}: a page of the list of {target} names itself as the next",
                    reason="garbage",
                )
            token = page.next

    @contextlib.asynccontextmanager
    async def watch(
        self, target: Target, version: str, seconds: float
    ) -> AsyncIterator[Callable[[], AsyncGenerator[bytes]]]:
        """An open watch: what makes the generator of its bytes.

        Args:
            target: what to watch.
            version: from which resourceVersion on.
            seconds: after how long the server shall end it.

        Raises:
            ApiError: ``Expired`` if that version is not to be had any more.
        """
        params = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, math.ceil(seconds))),
        }
        if target.selector:
            params["labelSelector"] = target.selector
        async with self._open("watch", target, params) as response:

            async def chunks() -> AsyncGenerator[bytes]:
                while True:
                    try:
                        chunk = await response.content.readany()
                    except (aiohttp.ClientError, OSError) as error:
                        if isinstance(error, TimeoutError):
                            raise
                        raise self._lost(target, error) from error
                    if not chunk:
                        return
                    yield chunk

            yield chunks

    @contextlib.asynccontextmanager
    async def _open(
        self, verb: str, target: Target, params: Mapping[str, str], accept: str = _WHOLE
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer's head. Its body is for the caller."""
        response = await self._get(verb, target, params, accept, refused=False)
        try:
            if response.status == _UNAUTHORIZED:
                response.close()
                response = await self._get(verb, target, params, accept, refused=True)
            if response.status != _OK:
                raise await self._refusal(verb, target, response)
            yield response
        finally:
            response.close()

    async def _get(
        self, verb: str, target: Target, params: Mapping[str, str], accept: str, *, refused: bool
    ) -> aiohttp.ClientResponse:
        access = self._access
        headers = {
            "Accept": accept,
            # The network inside a cluster is faster than the server's compressing.
            "Accept-Encoding": "identity",
            "User-Agent": self._agent,
        }
        try:
            headers.update(await access.headers(refused=refused))
            tls = await access.tls()
        except DiscoveryError as error:
            raise ApiError(str(error), reason="credentials") from error
        try:
            async with asyncio.timeout(self._timing.list_s):
                return await self._session.get(
                    access.server + target.resource.path(target.namespace),
                    params=params,
                    headers=headers,
                    ssl=tls,
                    proxy=access.proxy,
                    server_hostname=access.tls_server_name,
                    allow_redirects=False,  # credentials go to nobody else
                )
        except TimeoutError as error:
            raise ApiError(
                f"{access.server} did not answer a {verb} of {target} within "
                f"{self._timing.list_s:g} s; is the address of {access.origin} right, and reachable "
                "from here?",
                reason="timeout",
            ) from error
        except aiohttp.ClientHttpProxyError as error:
            raise ApiError(
                f"{access.server}: the proxy answered {error.status} {error.message}; check the "
                f"proxy-url of {access.origin}",
                reason="connection",
            ) from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise ApiError(
                f"TLS with {access.server} failed: {_short(error)}; check the certificate authority, "
                f"the client certificate and the server's name in {access.origin}",
                reason="tls",
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._lost(target, error) from error

    def _lost(self, target: Target, error: Exception) -> ApiError:
        if isinstance(error, TimeoutError):
            return ApiError(f"{self._access.server} stopped sending {target}", reason="timeout")
        reason = "tls" if isinstance(error, ssl.SSLError) else "connection"
        return ApiError(f"{self._access.server}: {_short(error)}", reason=reason)

    async def _refusal(
        self, verb: str, target: Target, response: aiohttp.ClientResponse
    ) -> ApiError:
        """What a status other than 200 means."""
        status = response.status
        body = b""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(self._timing.connect_s):
                body = await response.content.read(_MAX_REFUSAL)
        said = decode_failure(body, status)
        retry_after = self._retry_after(response.headers.get("Retry-After", ""))
        server = self._access.server
        text = (
            f"{server} answered a {verb} of {target} with {status}: {said.message or said.reason}"
        )
        if said.expired:
            return Expired(text, retry_after=retry_after)
        if status == _UNAUTHORIZED:
            return ApiError(
                f"{text}; it does not accept the credentials of {self._access.origin}: renew them",
                reason="unauthorized",
                retry_after=retry_after,
            )
        if status == _FORBIDDEN:
            return ApiError(self._forbidden(verb, target, said), reason="forbidden")
        if status == _NOT_FOUND:
            text += "; is this the address of a Kubernetes API server (1.21 or later)?"
        elif status in _REDIRECTS:
            text += (
                f"; it redirects to {response.headers.get('Location', '')[:200]!r}, which is not "
                f"followed: name the API server itself in {self._access.origin}"
            )
        reason = "throttled" if status == _THROTTLED else f"http_{status // 100}xx"
        return ApiError(text, reason=reason, retry_after=retry_after)

    def _forbidden(self, verb: str, target: Target, said: Failure) -> str:
        resource, namespace = target.resource, target.namespace
        role = f"a Role in namespace {namespace}" if namespace else "a ClusterRole"
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        narrower = "" if namespace else "; or read single namespaces with --namespace"
        return (
            f"{self._access.server} does not let {self._access.origin} {verb} {resource.plural} (API "
            f'group "{resource.group}") {where}: {said.message or "forbidden"}. Bind {role} with the '
            f'rule {{apiGroups: ["{resource.group}"], resources: ["{resource.plural}"], '
            f'verbs: ["list", "watch"]}} to it{narrower}'
        )

    def _retry_after(self, text: str) -> float | None:
        """Seconds or a date (RFC 9110, 10.2.3), cut to the limit; None if unreadable."""
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - self._wall()
            except (ValueError, OverflowError):
                return None
        if math.isnan(seconds):
            return None
        return min(max(seconds, 0.0), self._timing.retry_after_max_s)


def _short(error: Exception) -> str:
    # aiohttp shows its SSLContext, as an object's repr.
    text = re.sub(r" ssl:(<[^>]*>|\w+)", "", str(error))
    return without_secrets(text or type(error).__name__)[:300]
