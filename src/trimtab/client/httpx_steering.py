"""A request on its way to an endpoint, in the words that a library's transport reads."""

from __future__ import annotations

from typing import Any

from trimtab.balancer import Node

_TIMEOUTS = ("connect", "read", "write", "pool")


class _Url:
    """Where a request goes, in the words that a library's transport reads."""

    __slots__ = ("port", "raw_host", "raw_path", "raw_scheme")

    def __init__(self, url: Any, node: Node) -> None:
        scheme, endpoint = url.raw_scheme, node.endpoint
        self.raw_scheme = b"http" if scheme == b"xds" else scheme
        self.raw_host = endpoint.address.encode()
        self.port = endpoint.port
        self.raw_path = url.raw_path


class Steered:
    """A request on its way to an endpoint. Headers, ``Host`` among them, are the caller's.

    Args:
        request: the caller's.
        node: where it goes.
        connect_s: the longest wait for a connection [s]; None: as the caller says.
        attempt_s: the longest wait for anything until there is an answer [s]; None: likewise.
    """

    __slots__ = ("_timeout", "extensions", "headers", "method", "stream", "url")

    def __init__(
        self, request: Any, node: Node, connect_s: float | None, attempt_s: float | None = None
    ) -> None:
        extensions = request.extensions
        self._timeout = timeout = extensions.get("timeout") or {}
        if attempt_s is not None:
            limits = {kind: _least(timeout.get(kind), attempt_s) for kind in _TIMEOUTS}
            limits["connect"] = _least(limits["connect"], connect_s)
            extensions = {**extensions, "timeout": limits}
        elif connect_s is not None and timeout:
            connect = timeout.get("connect")
            if connect is None or connect > connect_s:
                extensions = {**extensions, "timeout": {**timeout, "connect": connect_s}}
        self.method = request.method
        self.url = url = _Url(request.url, node)
        if url.raw_scheme == b"https" and "sni_hostname" not in extensions:
            extensions = {**extensions, "sni_hostname": request.url.raw_host.decode()}
        self.headers = request.headers
        self.stream = request.stream
        self.extensions = extensions

    def is_own_time(self, kind: str) -> bool:
        """Whether a timeout of this kind was the attempt's and not the caller's."""
        limits, given = self.extensions.get("timeout") or {}, self._timeout.get(kind)
        return limits.get(kind) is not None and (given is None or limits[kind] < given)

    def is_answered(self) -> None:
        """The body may take as long as the caller says; the pool looks when it is read."""
        limits = self.extensions.get("timeout")
        if limits is not self._timeout and limits:
            limits["read"] = self._timeout.get("read")


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)
