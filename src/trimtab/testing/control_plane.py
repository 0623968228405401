"""A control plane in the test's own process. It speaks real xDS over a loopback port."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from trimtab.client.bootstrap import Bootstrap
from trimtab.discovery.static import snapshot_of
from trimtab.errors import ProtocolError
from trimtab.model import Endpoint, Removed, Snapshot, SourceEvent, Synced, Updated
from trimtab.xds.catalog import Catalog, Client
from trimtab.xds.server_session import ResourceStatus, ServerSession

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_MAX_STREAMS = 64
_STOP_S = 1.0  # for streams to end by themselves, which takes milliseconds


@dataclass(frozen=True, slots=True)
class ConnectedClient:
    """One stream to a ``ControlPlane``.

    Attributes:
        node: who it says it is.
        resources: what it subscribed to, each with the version that it was sent and accepted.
    """

    node: Client
    resources: tuple[ResourceStatus, ...]


class _Stream:
    """One client's stream: its session, and why it has to end."""

    def __init__(self, session: ServerSession) -> None:
        self.session = session
        self.ended = False
        self.error = ""


class ControlPlane:
    """A control plane in this process, on a loopback port.

    It runs between ``start`` and ``stop``, which ``with`` calls. What was set survives a stop, and
    ``start`` takes the same port again, so a restart is ``stop(); start()``. All methods may be
    called from any thread.

    Threads and a sync server are used on purpose: a second asyncio loop with gRPC in the process
    would disturb tests of asyncio clients.

    Args:
        port: where to listen on 127.0.0.1; 0 takes a free one.
    """

    def __init__(self, *, port: int = 0) -> None:
        self._catalog = Catalog()
        self._catalog.apply(Synced())
        self._changed = threading.Condition()
        self._streams: set[_Stream] = set()
        self._server: Any = None
        self._port = port
        self._node_id = f"test-{uuid.uuid4()}"

    def start(self) -> None:
        """Begin to serve.

        Raises:
            RuntimeError: it runs already, or its former port was taken by somebody else.
        """
        if self._server is not None:
            raise RuntimeError("this ControlPlane runs already; stop it first")
        server = grpc.server(
            ThreadPoolExecutor(_MAX_STREAMS, thread_name_prefix="trimtab-control-plane"),
            options=(
                ("grpc.so_reuseport", 0),
                # Clients ping quiet streams to notice a dead control plane.
                ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ),
        )
        handler: Any = grpc.stream_stream_rpc_method_handler(self._serve)
        handlers = {"StreamAggregatedResources": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self._port = server.add_insecure_port(f"127.0.0.1:{self._port}")
        server.start()
        self._server = server

    def stop(self) -> None:
        """End all streams and stop serving. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        # Streams that are cut instead make gRPC log an error in the client, in somebody's test.
        with self._changed:
            for stream in self._streams:
                stream.ended = True
            self._changed.notify_all()
        server.stop(_STOP_S).wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``.

        Raises:
            RuntimeError: it was never started.
        """
        if not self._port:
            raise RuntimeError("this ControlPlane has no port yet; start it, or use `with`")
        return f"127.0.0.1:{self._port}"

    def bootstrap(self, *, namespace: str = "", zone: str = "") -> Bootstrap:
        """What a channel needs to find it: ``insecure_channel(..., bootstrap=...)``."""
        return Bootstrap.of(self.address, node_id=self._node_id, namespace=namespace, zone=zone)

    def set(
        self, cluster: str | Snapshot, endpoints: Iterable[str | Endpoint] | None = None
    ) -> None:
        """Say what a cluster's endpoints are now; all clients that follow it are told.

        Args:
            cluster: the name that clients ask for, or a whole ``Snapshot``.
            endpoints: ``host:port`` texts or ``Endpoint`` values; none with a ``Snapshot``.

        Raises:
            ConfigError: an endpoint is wrong.
            TypeError: endpoints were given with a ``Snapshot``, or left out without one.
        """
        if isinstance(cluster, Snapshot) != (endpoints is None):
            raise TypeError("ControlPlane.set takes a Snapshot, or a cluster name and endpoints")
        if not isinstance(cluster, Snapshot):
            cluster = snapshot_of(cluster, endpoints or ())
        self._apply(Updated(cluster))

    def remove(self, cluster: str) -> None:
        """Say that a cluster no longer exists. Unknown ones are ignored."""
        self._apply(Removed(cluster))

    def clients(self) -> list[ConnectedClient]:
        """Who is connected now, and what each of them has."""
        with self._changed:
            return [
                ConnectedClient(stream.session.client or Client(), tuple(stream.session.status()))
                for stream in self._streams
            ]

    def _apply(self, event: SourceEvent) -> None:
        with self._changed:
            changed = self._catalog.apply(event)
            for stream in self._streams:
                stream.session.changed(changed)
            self._changed.notify_all()

    def _serve(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        stream = _Stream(ServerSession(self._catalog, delta=False))

        def end() -> None:
            with self._changed:
                stream.ended = True
                self._changed.notify_all()

        if not context.add_callback(end):
            return
        with self._changed:
            self._streams.add(stream)
        reader = threading.Thread(target=self._read, args=(stream, requests), daemon=True)
        reader.start()
        try:
            while (response := self._next(stream)) is not None:
                yield response
        finally:
            with self._changed:
                self._streams.discard(stream)
        if stream.error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, stream.error)

    def _read(self, stream: _Stream, requests: Iterator[bytes]) -> None:
        try:
            for request in requests:
                with self._changed:
                    stream.session.receive(request)
                    stream.session.take_events()  # nobody wants to know: else they are kept
                    self._changed.notify_all()
        except ProtocolError as error:
            stream.error = str(error)
        except grpc.RpcError:
            pass  # the client or the server has gone
        with self._changed:
            stream.ended = True
            self._changed.notify_all()

    def _next(self, stream: _Stream) -> bytes | None:
        with self._changed:
            while not stream.ended:
                response = stream.session.next_response()
                if response is not None:
                    return response
                self._changed.wait()
            return None
