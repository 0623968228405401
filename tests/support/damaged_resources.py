"""Answers of a control plane with damaged resources, for the client's side of the protocol."""

import contextlib
from collections import Counter

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from damaged_messages import ORDERS, fill, torn
from plane import snapshot
from trimtab.errors import ProtocolError
from trimtab.model import PolicyConfig, Snapshot, Synced, Updated
from trimtab.xds import type_urls, wire_pb2
from trimtab.xds.catalog import Catalog
from trimtab.xds.client_session import ClientSession, NodeInfo, Rejected, Resolved
from trimtab.xds.server_session import ServerSession

KINDS = {
    type_urls.LDS: wire_pb2.Listener,
    type_urls.RDS: wire_pb2.RouteConfiguration,
    type_urls.CDS: wire_pb2.Cluster,
    type_urls.EDS: wire_pb2.ClusterLoadAssignment,
}


class Answers:
    """A client that has resolved a Service, and the good answers that it got."""

    def __init__(self, random):
        self.outcomes = Counter()
        self._random = random
        self._server = Catalog()
        found = snapshot("orders", 1, 2, 3)
        policy = PolicyConfig.of("token", zone="off")
        self._server.apply(Updated(Snapshot(found.cluster, found.endpoints, policy, found.service)))
        self._server.apply(Synced())
        self._client = ClientSession(node=NodeInfo("fuzz"))
        self._client.watch(ORDERS)
        self.good = self._converse()
        self._first = self._client.snapshots[ORDERS]

    def _converse(self):
        """A new stream to a control plane that is well, until nobody has anything to say."""
        said = []
        server = ServerSession(self._server, delta=False)
        self._client.connected()
        while requests := self._client.take_requests():
            for request in requests:
                server.receive(request, 0.0)
            while (response := server.next_response()) is not None:
                said.append(response)
                self._client.receive(response)
        return said

    def damage(self):
        """One damaged answer: a ``ProtocolError`` or a verdict, and what was known stays in use."""
        response = wire_pb2.DiscoveryResponse.FromString(self._random.choice(self.good))
        for number in range(len(response.resources)):
            response.resources[number] = self._damaged(response.resources[number])
        if self._random.random() < 0.1:
            fill(response, self._random)
        raw = response.SerializeToString()
        if self._random.random() < 0.1:
            raw = torn(raw, self._random)
        try:
            verdicts = self._client.receive(raw)
        except ProtocolError:
            self.outcomes["no answer at all"] += 1
            self._client.connected()
        else:
            kinds = {type(verdict) for verdict in verdicts}
            refused, taken = Rejected in kinds, Resolved in kinds
            self.outcomes["refused" if refused else "taken" if taken else "no news"] += 1
            for verdict in verdicts:
                str(verdict).encode(errors="surrogatepass")
        for request in self._client.take_requests():
            wire_pb2.DiscoveryRequest.FromString(request)
        known = self._client.snapshots[ORDERS]
        assert Snapshot(known.cluster, known.endpoints, known.policy, known.service) == known

    def recover(self):
        """After good answers the client knows what it knew at first."""
        self._converse()
        assert self._client.snapshots[ORDERS] == self._first

    def _damaged(self, resource):
        random = self._random
        wrapped = Any.FromString(resource)
        if random.random() < 0.3:
            wrapped.value = torn(wrapped.value, random)
        elif wrapped.type_url in KINDS:
            message = KINDS[wrapped.type_url].FromString(wrapped.value)
            self._change(message)
            wrapped.value = message.SerializeToString()
        return wrapped.SerializeToString() if random.random() < 0.95 else torn(resource, random)

    def _change(self, message):
        """One part of the message, however deep, becomes anything."""
        random = self._random
        at = message
        while random.random() < 0.8:
            below = [
                part
                for field, value in at.ListFields()
                if field.message_type is not None and not field.message_type.GetOptions().map_entry
                for part in (value if field.is_repeated else (value,))
            ]
            if not below:
                break
            at = random.choice(below)
        kept = at.SerializeToString()
        fields = [field for field, _ in at.ListFields()]
        if fields and random.random() < 0.3:
            at.ClearField(random.choice(fields).name)
        elif random.random() < 0.5:
            fill(at, random, depth=2)
        else:
            # As bytes, so that endpoints, which are bytes on the wire, are damaged too.
            with contextlib.suppress(DecodeError):
                at.ParseFromString(torn(kept, random))
