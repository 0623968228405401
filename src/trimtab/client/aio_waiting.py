"""The interceptor that lets a call wait until an endpoint can take it.

It stands last, just above the pick, and only while nothing can leave, while the policy wants keys,
for calls that want labels, or below the caller's interceptors, which may take their time. So a waiting call of any arity is gRPC's own object.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

from trimtab.client.aio_cluster import AioCluster
from trimtab.client.request_key import kept, key_of

Details = grpc.aio.ClientCallDetails
Continuation = Callable[[Details, Any], Awaitable[Any]]


def method_of(details: Details) -> str:
    """``/package.Service/Method``; gRPC gives it as text or as bytes."""
    method: Any = details.method
    return method.decode() if isinstance(method, bytes) else method


class Waiting:
    """All four arities wait alike. The deadline covers the waiting and the call."""

    def __init__(self, cluster: AioCluster) -> None:
        self._cluster = cluster

    async def go_on(
        self, continuation: Continuation, details: Details, request: Any, asked: Any = None
    ) -> Any:
        """Wait, then let the call leave. ``asked``: the request where it is a single one."""
        details = await self.wait(details)
        wanted = self._cluster.balancer.hash_key
        if wanted is None:
            return await continuation(details, request)
        function = self._cluster.key_function
        with kept(key_of(details.metadata, wanted, function, method_of(details), asked)):
            return await continuation(details, request)

    async def wait(self, details: Details) -> Details:
        """Wait; return the details with what is left of the timeout."""
        limit = self._cluster.attempts.limit(method_of(details), details.timeout)
        left = await self._cluster.until_ready(limit, details.wait_for_ready)
        if left == limit:  # the endpoint's own channel knows the configuration's
            return details
        return grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=left,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """See ``grpc.aio.UnaryUnaryClientInterceptor``."""
        return await self.go_on(continuation, details, request, request)

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """See ``grpc.aio.UnaryStreamClientInterceptor``."""
        return await self.go_on(continuation, details, request, request)

    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        """See ``grpc.aio.StreamUnaryClientInterceptor``."""
        return await self.go_on(continuation, details, requests)

    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        """See ``grpc.aio.StreamStreamClientInterceptor``."""
        return await self.go_on(continuation, details, requests)
