"""Peers that speak xDS with the official messages, so that a test does not repeat our schema."""

from __future__ import annotations

from dataclasses import dataclass, field

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2

from trimtab.model import Endpoint, PolicyConfig, Removed, ServicePort, Snapshot, Updated
from trimtab.xds import type_urls
from trimtab.xds.catalog import Catalog
from trimtab.xds.server_session import ServerSession

CDS, EDS, LDS, RDS = type_urls.CDS, type_urls.EDS, type_urls.LDS, type_urls.RDS
MESSAGES = {
    CDS: cluster_pb2.Cluster,
    EDS: endpoint_pb2.ClusterLoadAssignment,
    LDS: listener_pb2.Listener,
    RDS: route_pb2.RouteConfiguration,
}


def service(name="orders", namespace="shop", port=8080, port_name="grpc", app_protocol=""):
    return ServicePort(name, namespace, port, port_name, app_protocol)


def snapshot(
    *addresses: str | Endpoint,
    of: ServicePort | None = None,
    policy: PolicyConfig | None = None,
) -> Snapshot:
    port = of or service()
    endpoints = tuple(a if isinstance(a, Endpoint) else Endpoint(a, 9000) for a in addresses)
    return Snapshot(port.cluster, endpoints, policy, port)


def opened(any_resource):
    """The official message in an Any, or in a delta Resource."""
    wrapped = getattr(any_resource, "resource", any_resource)
    return MESSAGES[wrapped.type_url].FromString(wrapped.value)


def name_of(message):
    return getattr(message, "name", "") or message.cluster_name


def addresses(assignment):
    return {
        e.endpoint.address.socket_address.address
        for locality in assignment.endpoints
        for e in locality.lb_endpoints
    }


def node(user_agent="gRPC Go", node_id="test", **metadata):
    found = discovery_pb2.DiscoveryRequest().node
    found.id = node_id
    found.user_agent_name = user_agent
    if metadata:
        found.metadata.update(metadata)
    return found


class Plane:
    """A catalog with the sessions that are told of its changes."""

    def __init__(self, *events, aliases=()):
        self.catalog = Catalog(aliases)
        self.peers = []
        for event in events:
            self.catalog.apply(event)

    def update(self, *snapshots):
        for one in snapshots:
            self._tell(self.catalog.apply(Updated(one)))

    def remove(self, cluster):
        self._tell(self.catalog.apply(Removed(cluster)))

    def apply(self, event):
        self._tell(self.catalog.apply(event))

    def _tell(self, changed):
        for peer in self.peers:
            peer.session.changed(changed)

    def sotw(self, user_agent="gRPC Go", type_url=None, **options):
        peer = Sotw(ServerSession(self.catalog, delta=False, type_url=type_url, **options))
        peer.node = node(user_agent)
        self.peers.append(peer)
        return peer

    def delta(self, user_agent="envoy", type_url=None, **options):
        peer = Delta(ServerSession(self.catalog, delta=True, type_url=type_url, **options))
        peer.node = node(user_agent)
        self.peers.append(peer)
        return peer


@dataclass
class Sotw:
    """A state-of-the-world client of the official messages. It remembers nonces and versions."""

    session: ServerSession
    node: object = None
    nonces: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)
    response = discovery_pb2.DiscoveryResponse

    def ask(self, type_url, *names, nonce=None, version=None, error=None):
        """Send a request with the latest nonce and version, unless others are given."""
        self.names[type_url] = names
        request = discovery_pb2.DiscoveryRequest(
            type_url=type_url,
            resource_names=names,
            response_nonce=self.nonces.get(type_url, "") if nonce is None else nonce,
            version_info=self.versions.get(type_url, "") if version is None else version,
        )
        if self.node is not None:
            request.node.CopyFrom(self.node)
            self.node = None
        if error is not None:
            request.error_detail.code = 3
            request.error_detail.message = error
        self.session.receive(request.SerializeToString())

    def get(self):
        """The next response, None if there is none. It is not answered yet."""
        raw = self.session.next_response()
        if raw is None:
            return None
        response = discovery_pb2.DiscoveryResponse.FromString(raw)
        self.nonces[response.type_url] = response.nonce
        return response

    def ack(self, response):
        self.versions[response.type_url] = response.version_info
        self.ask(response.type_url, *self.names[response.type_url], nonce=response.nonce)

    def nack(self, response, text):
        self.ask(
            response.type_url, *self.names[response.type_url], nonce=response.nonce, error=text
        )

    def drain(self):
        """Read and ACK everything; the responses in order."""
        found = []
        while (response := self.get()) is not None:
            found.append(response)
            self.ack(response)
        return found


@dataclass
class Delta:
    """A delta client of the official messages."""

    session: ServerSession
    node: object = None

    def ask(self, type_url, subscribe=(), unsubscribe=(), *, initial=(), nonce="", error=None):
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=unsubscribe,
            initial_resource_versions=dict(initial),
            response_nonce=nonce,
        )
        if self.node is not None:
            request.node.CopyFrom(self.node)
            self.node = None
        if error is not None:
            request.error_detail.code = 13
            request.error_detail.message = error
        self.session.receive(request.SerializeToString())

    def get(self):
        raw = self.session.next_response()
        return None if raw is None else discovery_pb2.DeltaDiscoveryResponse.FromString(raw)

    def ack(self, response):
        self.ask(response.type_url, nonce=response.nonce)

    def nack(self, response, text):
        self.ask(response.type_url, nonce=response.nonce, error=text)

    def drain(self):
        found = []
        while (response := self.get()) is not None:
            found.append(response)
            self.ack(response)
        return found
