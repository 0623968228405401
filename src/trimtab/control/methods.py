"""The gRPC methods of the xDS port: what each serves, and who handles it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio

from trimtab.control.stream import Call

_DISCOVERY = "envoy.service.{}.v3.{}DiscoveryService"
_TYPE = "type.googleapis.com/envoy.config.{}"


@dataclass(frozen=True, slots=True)
class Method:
    """One gRPC method: which service, which type (None: all of them), which transport."""

    service: str
    type_url: str | None
    delta: bool

    @property
    def transport(self) -> str:
        """``sotw`` or ``delta``."""
        return "delta" if self.delta else "sotw"


def _methods() -> dict[str, Method]:
    services = (
        ("ads", "discovery", "Aggregated", "AggregatedResources", None),
        ("cds", "cluster", "Cluster", "Clusters", "cluster.v3.Cluster"),
        ("eds", "endpoint", "Endpoint", "Endpoints", "endpoint.v3.ClusterLoadAssignment"),
        ("lds", "listener", "Listener", "Listeners", "listener.v3.Listener"),
        ("rds", "route", "Route", "Routes", "route.v3.RouteConfiguration"),
    )
    found: dict[str, Method] = {}
    for short, package, service, plural, resource in services:
        type_url = _TYPE.format(resource) if resource else None
        path = f"/{_DISCOVERY.format(package, service)}"
        found[f"{path}/Stream{plural}"] = Method(short, type_url, delta=False)
        found[f"{path}/Delta{plural}"] = Method(short, type_url, delta=True)
    return found


LOAD_REPORTS = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
CLIENT_STATUS = "/envoy.service.status.v3.ClientStatusDiscoveryService/"
METHODS = {
    **_methods(),
    LOAD_REPORTS: Method("lrs", None, delta=False),
    CLIENT_STATUS + "StreamClientStatus": Method("csds", None, delta=False),
    # One question, one answer: on the wire a stream that the client ends after its first message.
    CLIENT_STATUS + "FetchClientStatus": Method("csds", None, delta=False),
}


class Handlers(grpc.GenericRpcHandler):
    """Finds the method; an unknown one is UNIMPLEMENTED by gRPC itself.

    Args:
        handle: called with the method, gRPC's iterator of requests, and the call.
    """

    def __init__(self, handle: Callable[[Method, object, Call], Coroutine[Any, Any, None]]) -> None:
        # Made once: a stream holds its own for as long as it lives.
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            path: grpc.stream_stream_rpc_method_handler(partial(handle, method))
            for path, method in METHODS.items()
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """See ``grpc.GenericRpcHandler``."""
        return self._handlers.get(handler_call_details.method)
