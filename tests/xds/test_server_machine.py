"""Any order of requests, answers and changes against a model of a client.

The model is a client in the protocol's terms: it applies what it receives as Envoy (a response with
one bad resource is refused as a whole) or as gRPC (the good ones are used). Responses and requests
travel one by one, so that each side acts on what it has seen. Whenever both sides come to rest, the
client must have what the catalog has.
"""

from collections import deque

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from machine_settings import machine_settings
from trimtab.model import PolicyConfig, Removed, Synced, Updated
from trimtab.xds.catalog import Catalog
from trimtab.xds.server_session import ServerSession
from trimtab.xds.type_urls import FULL_SET
from xds_peer import CDS, EDS, LDS, RDS, name_of, node, opened, service, snapshot

TYPES = st.sampled_from([CDS, EDS, LDS, RDS])
CLUSTERS = st.sampled_from(["a", "b"])
NAMES = ["a.shop:8080", "b.shop:8080", "a.shop", "zz.shop:1", "a.shop.svc.corp:8080"]
CONTENT = st.tuples(
    st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.sampled_from([None, "random", "round_robin"])
)


def is_routeless(body):
    """Whether this is what Envoy is sent in place of routes that never existed."""
    return not opened(any_pb2.Any.FromString(body)).virtual_hosts


class Machine(RuleBasedStateMachine):
    """What the two variants share: the catalog, the wires, and what rest means."""

    def __init__(self):
        super().__init__()
        self.catalog = Catalog()
        self.wanted = {t: set() for t in (CDS, EDS, LDS, RDS)}
        self.wildcard = set()
        self.applied = {t: {} for t in self.wanted}  # name -> body
        self.forget()

    def forget(self):
        """A new stream: what was said on the old one is gone."""
        self.session = ServerSession(self.catalog, delta=self.delta)
        self.node = node(self.agent)
        self.to_client = deque()
        self.nonces = set()
        self.there = {}  # by nonce: what there was when it was built
        self.refused = {t: set() for t in self.wanted}  # (name, content)
        self.forgotten = {t: set() for t in self.wanted}  # refused, and may be sent again
        self.owed = {t: set() for t in self.wanted}  # names that must be answered

    @property
    def whole(self):
        return self.agent == "envoy"

    @initialize(agent=st.sampled_from(["envoy", "gRPC Go"]), synced=st.booleans())
    def begin(self, agent, synced):
        self.agent = agent
        self.node = node(agent)
        self.update("a", ("10.0.0.1", None))
        if synced:
            self.catalog.apply(Synced())
        for kind in (CDS, EDS, LDS):
            self.subscribe_to(kind, {NAMES[0], NAMES[1]})

    @rule(
        cluster=CLUSTERS, contents=st.lists(CONTENT, min_size=2, max_size=4), bad=st.integers(0, 3)
    )
    def contents_come_and_go_while_one_is_refused(self, cluster, contents, bad):
        for number, content in enumerate([*contents, *contents]):
            self.update(cluster, content)
            self.server_writes()
            if self.to_client:
                self.client_answers(0 if number == bad else None)

    @rule(cluster=CLUSTERS, content=CONTENT)
    def update(self, cluster, content):
        address, policy = content
        snap = snapshot(
            address, of=service(cluster), policy=PolicyConfig(policy) if policy else None
        )
        self.tell(Updated(snap))

    @rule(cluster=CLUSTERS)
    def remove(self, cluster):
        self.tell(Removed(f"{cluster}.shop:8080"))

    @rule()
    def sync(self):
        self.tell(Synced())

    def tell(self, event):
        self.session.changed(self.catalog.apply(event))

    @rule()
    def server_writes(self):
        raw = self.session.next_response()
        if raw is None:
            return
        response = self.message.FromString(raw)
        assert self.catalog.synced
        assert response.nonce not in self.nonces
        self.nonces.add(response.nonce)
        kind, client = response.type_url, self.session.client
        self.there[response.nonce] = {
            n for n in NAMES if self.catalog.get(kind, n, client) and self.may_have(kind, n)
        }
        resources = self.resources(response)
        contents = {n: self.content(response.type_url, n, b) for n, b in resources.items()}
        for name, content in contents.items():
            refused = (name, content) in self.refused[response.type_url]
            assert not refused, f"{name} was sent again after a NACK"
        told = {e.resource_name.name for e in response.resource_errors}
        told |= {*resources, *getattr(response, "removed_resources", ())}
        self.owed[response.type_url] -= told
        self.leave(kind, getattr(response, "removed_resources", ()))
        self.to_client.append((response, contents, set()))

    def content(self, kind, name, body):
        """What makes a resource another one: endpoints count as changed with their Cluster."""
        cluster = self.catalog.get(CDS, name, self.session.client) if kind == EDS else None
        return (body, cluster.version if cluster else "")

    @precondition(lambda self: self.to_client)
    @rule(bad=st.integers(0, 3) | st.none())
    def client_answers(self, bad):
        response, contents, asked_again = self.to_client.popleft()
        kind = response.type_url
        resources = self.resources(response)
        if kind == RDS:
            emptied = [n for n, b in resources.items() if is_routeless(b) and self.has_route(n)]
            assert not emptied, f"the routes of {emptied} were taken away"
        news = [n for n, body in resources.items() if self.applied[kind].get(n) != body]
        known_bad = {n for n, content in contents.items() if (n, content) in self.refused[kind]}
        if bad is not None and bad < len(news):
            known_bad.add(news[bad])
        self.refused[kind] |= {(n, contents[n]) for n in known_bad - asked_again}
        if not known_bad:
            self.apply(response, set())
            self.answer(response, None)
            return
        if not self.whole:
            self.apply(response, known_bad)
        self.answer(response, "; ".join(f"{name}: bad" for name in sorted(known_bad)))

    def excuse(self, kind, names):
        """Names that are asked for anew may be sent again, even if what is under way is refused."""
        self.refused[kind] = {(n, c) for n, c in self.refused[kind] if n not in names}
        for response, _, asked_again in self.to_client:
            if response.type_url == kind:
                asked_again.update(names)

    def leave(self, kind, names):
        """Names that are gone, or asked for no more: what was refused of them may be forgotten."""
        under_way = (c.items() for r, c, _ in self.to_client if r.type_url == kind)
        refused = self.refused[kind].union(*under_way)
        self.forgotten[kind] |= {(n, content) for n, content in refused if n in names}
        self.excuse(kind, names)

    def has_route(self, name):
        return name in self.applied[RDS] and not is_routeless(self.applied[RDS][name])

    @rule()
    def rest(self):
        self.server_writes()
        while self.to_client:
            self.client_answers(None)
            self.server_writes()
        if self.catalog.synced:
            self.check()

    def check(self):
        client = self.session.client
        if client is None:
            return
        for kind, names in self.wanted.items():
            assert not self.owed[kind] & names, f"{kind} was named and not answered"
            targets = {n: self.catalog.get(kind, n, client) for n in names}
            if kind in self.wildcard:
                for n in self.catalog.wildcard(kind, client):
                    targets[n] = self.catalog.get(kind, n, client)
            if self.is_held(kind, targets):
                continue
            for name, target in targets.items():
                has = self.applied[kind].get(name)
                if target is None:
                    assert self.is_absent(kind, name, has), (kind, name)
                    continue
                content = (name, self.content(kind, name, target.body))
                if content not in self.refused[kind] | self.forgotten[kind]:
                    assert has == target.body, (kind, name, target.body, has)

    def is_held(self, kind, targets):
        """Whether the client is told no more, lest it loses what it has."""
        return False

    def may_have(self, kind, name):
        """Whether the client may have it: an Envoy asks for the endpoints of all its clusters."""
        return not self.whole or kind != CDS or name in self.wanted[EDS]

    @invariant()
    def status_never_fails(self):
        assert repr(self.session)
        self.session.take_events()


class SotwMachine(Machine):
    delta = False
    agent = "envoy"
    message = discovery_pb2.DiscoveryResponse

    def forget(self):
        super().forget()
        self.last = dict.fromkeys(self.wanted, "")  # nonces that the client has seen
        self.inherits = set()  # types of which all that it has is of earlier streams
        self.old = []
        self.asked = set()
        self.version = getattr(self, "version", dict.fromkeys(self.wanted, ""))

    @staticmethod
    def resources(response):
        return {name_of(opened(r)): r.SerializeToString() for r in response.resources}

    @rule(kind=TYPES, names=st.sets(st.sampled_from(NAMES)))
    def subscribe(self, kind, names):
        self.subscribe_to(kind, names)

    def subscribe_to(self, kind, names):
        if not names and kind not in self.asked:
            if kind not in FULL_SET:
                return
            self.wildcard.add(kind)
        elif kind in self.wildcard and names:
            self.wildcard.discard(kind)
        if not self.to_client:  # else the server may have to ignore the request as stale
            self.owed[kind] |= names - self.wanted[kind]
        self.excuse(kind, set(NAMES) - names)
        self.wanted[kind] = names
        self.applied[kind] = {n: b for n, b in self.applied[kind].items() if self.wants(kind, n)}
        self.request(kind, self.last[kind])

    def wants(self, kind, name):
        return name in self.wanted[kind] or kind in self.wildcard

    @rule(kind=TYPES, names=st.sets(st.sampled_from(NAMES)))
    @precondition(lambda self: self.old)
    def a_stale_request_changes_nothing(self, kind, names):
        kind, nonce = self.old[-1]
        if nonce != self.last[kind]:
            self.send(
                discovery_pb2.DiscoveryRequest(
                    type_url=kind, resource_names=names, response_nonce=nonce
                )
            )

    @rule()
    def reconnect(self):
        self.forget()
        for kind in self.wanted:
            if self.wanted[kind] or kind in self.wildcard:
                if self.version[kind]:
                    self.inherits.add(kind)
                self.request(kind, "")

    def is_held(self, kind, targets):
        """What it refused it may have an older version of, which a full set without it would delete."""
        return kind in FULL_SET & self.inherits and any(
            target
            and self.may_have(kind, name)
            and (name, self.content(kind, name, target.body)) in self.refused[kind]
            for name, target in targets.items()
        )

    def apply(self, response, bad):
        kind = response.type_url
        new = {
            n: b
            for n, b in self.resources(response).items()
            if n not in bad and self.wants(kind, n)
        }
        if kind in FULL_SET:
            # What is left out is deleted; what is bad stays as it was.
            kept = {n: b for n, b in self.applied[kind].items() if n in bad}
            deleted = set(self.applied[kind]) - set(kept | new)
            if kind in self.inherits:
                assert not deleted & self.there[response.nonce], "it was there"
            self.applied[kind] = kept | new
        else:
            self.applied[kind] |= new

    def answer(self, response, error):
        kind = response.type_url
        if self.last[kind]:
            self.old.append((kind, self.last[kind]))
        self.last[kind] = response.nonce
        if error is None:
            self.inherits.discard(kind)
            self.version[kind] = response.version_info
        self.request(kind, response.nonce, error)

    def request(self, kind, nonce, error=None):
        self.asked.add(kind)
        request = discovery_pb2.DiscoveryRequest(
            type_url=kind,
            resource_names=sorted(self.wanted[kind]),
            response_nonce=nonce,
            version_info=self.version[kind],
        )
        if error:
            request.error_detail.message = error
        self.send(request)

    def send(self, request):
        if self.node is not None:
            request.node.CopyFrom(self.node)
            self.node = None
        self.session.receive(request.SerializeToString())

    def is_absent(self, kind, name, has):
        # Endpoints and routes can't be deleted: the client may keep old ones.
        return kind not in FULL_SET or has is None or b"no-such-service" in has


class DeltaMachine(Machine):
    delta = True
    agent = "envoy"
    message = discovery_pb2.DeltaDiscoveryResponse

    def forget(self):
        super().forget()
        self.versions = getattr(self, "versions", {t: {} for t in self.wanted})
        self.started = set()

    @staticmethod
    def resources(response):
        found = {r.name: r.resource.SerializeToString() for r in response.resources}
        names = [r.name for r in response.resources] + list(response.removed_resources)
        assert len(names) == len(set(names)), "a name stands twice in a response"
        return found

    @rule(kind=TYPES, names=st.sets(st.sampled_from(NAMES), min_size=1), star=st.booleans())
    def subscribe(self, kind, names, star):
        self.subscribe_to(kind, {*names, "*"} if star and kind in FULL_SET else names)

    def subscribe_to(self, kind, names):
        self.started.add(kind)
        if "*" in names:
            self.wildcard.add(kind)
        self.owed[kind] |= names - {"*"}
        self.excuse(kind, names)
        self.forgotten[kind] = {(n, c) for n, c in self.forgotten[kind] if n not in names}
        self.wanted[kind] |= names - {"*"}
        self.send(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=kind, resource_names_subscribe=sorted(names)
            )
        )

    @rule(kind=TYPES, names=st.sets(st.sampled_from([*NAMES, "*"]), min_size=1))
    def unsubscribe(self, kind, names):
        self.started.add(kind)
        if "*" in names:
            self.wildcard.discard(kind)
        self.wanted[kind] -= names
        self.leave(kind, names if kind in self.wildcard else set(NAMES) - self.wanted[kind])
        if kind not in self.wildcard:
            kept = self.wanted[kind]
            for table in (self.applied[kind], self.versions[kind]):
                for name in set(table) - kept:
                    del table[name]
        self.send(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=kind, resource_names_unsubscribe=sorted(names)
            )
        )

    @rule()
    def reconnect(self):
        self.forget()
        for kind in self.wanted:
            names = self.wanted[kind] | ({"*"} if kind in self.wildcard else set())
            if names:
                self.started.add(kind)
                self.send(
                    discovery_pb2.DeltaDiscoveryRequest(
                        type_url=kind,
                        resource_names_subscribe=sorted(names),
                        initial_resource_versions=self.versions[kind],
                    )
                )

    def apply(self, response, bad):
        kind = response.type_url
        bodies = self.resources(response)
        for resource in response.resources:
            wanted = resource.name in self.wanted[kind] or kind in self.wildcard
            if wanted and resource.name not in bad:
                self.applied[kind][resource.name] = bodies[resource.name]
                self.versions[kind][resource.name] = resource.version
        for name in response.removed_resources:
            self.applied[kind].pop(name, None)
            self.versions[kind].pop(name, None)

    def answer(self, response, error):
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=response.nonce
        )
        if error:
            request.error_detail.message = error
        self.send(request)

    def send(self, request):
        if self.node is not None:
            request.node.CopyFrom(self.node)
            self.node = None
        self.session.receive(request.SerializeToString())

    def is_absent(self, kind, name, has):
        if kind == RDS and has is not None:
            return is_routeless(has)
        return has is None or b"no-such-service" in has


TestSotw = SotwMachine.TestCase
TestDelta = DeltaMachine.TestCase
TestSotw.settings = TestDelta.settings = machine_settings(60)
