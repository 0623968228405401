"""Who may see what: by the verified identity, and nothing else."""

import pytest

from trimtab.control.authorization import (
    Authorization,
    Identity,
    Policy,
    Rule,
    service_account,
    spiffe,
)
from trimtab.model import Removed, ServicePort, Snapshot, Synced, Updated
from trimtab.xds import type_urls, wire_pb2
from trimtab.xds.catalog import Catalog
from trimtab.xds.server_session import ServerSession

SHOP = ServicePort("orders", "shop", 80)
SHOP_WEB = Identity("system:serviceaccount:shop:web", "shop")
BANK_WEB = Identity("system:serviceaccount:bank:web", "bank")


def test_a_client_sees_its_own_namespace_and_no_other_by_default():
    assert Policy().sees(SHOP_WEB, SHOP)
    assert not Policy().sees(BANK_WEB, SHOP)


def test_an_identity_without_namespace_sees_nothing_that_belongs_to_nobody():
    nobody = Identity("x509:orders")
    assert not Policy().sees(nobody, SHOP)
    assert not Policy().sees(nobody, ServicePort("orders", "", 80))
    assert not Policy().sees(SHOP_WEB, None)


@pytest.mark.parametrize(("to", "seen"), [(("bank",), True), (("*",), True), (("bankers",), False)])
def test_an_exported_service_is_seen_where_it_is_exported_to(to, seen):
    assert Policy().sees(BANK_WEB, ServicePort("orders", "shop", 80, exported_to=to)) is seen


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        (Rule("system:serviceaccount:bank:*", namespaces=("shop",)), True),
        (Rule("system:serviceaccount:bank:*", namespaces=("sh*",)), True),
        (Rule("system:serviceaccount:bank:web", services=("orders.shop",)), True),
        (Rule("system:serviceaccount:bank:web", services=("orders.bank",)), False),
        (Rule("system:serviceaccount:bank:web"), False),
        (Rule("spiffe://*", namespaces=("*",)), False),
        (Rule("static:system:serviceaccount:bank:web", namespaces=("*",)), False),
    ],
)
def test_a_rule_shows_what_it_names_to_whom_it_names(rule, seen):
    assert Policy(rules=(rule,)).sees(BANK_WEB, SHOP) is seen


def test_with_one_tenant_every_identity_sees_everything():
    assert Policy(default="all").sees(BANK_WEB, SHOP)


@pytest.mark.parametrize(
    ("uri", "namespace"),
    [
        ("spiffe://example.org/ns/shop/sa/web", "shop"),
        ("spiffe://example.org/web", ""),
        ("spiffe://example.org/ns/shop/sa/web/more", ""),
        ("spiffe://example.org/sa/shop/ns/web", ""),
    ],
)
def test_a_spiffe_id_names_a_namespace_in_its_usual_form_only(uri, namespace):
    assert spiffe(uri) == Identity(uri, namespace)


@pytest.mark.parametrize(
    "uri", ["https://example.org/ns/shop/sa/web", "spiffe://", "spiffe:///ns/shop/sa/web",
            "spiffe://example.org/ns//sa/web"],
)  # fmt: skip
def test_what_is_no_spiffe_id_is_nobody(uri):
    assert spiffe(uri) is None


@pytest.mark.parametrize(
    "name", ["web", "system:serviceaccount:shop", "system:serviceaccount::web", "system:node:a"]
)
def test_only_service_accounts_are_service_accounts(name):
    assert service_account(name) is None
    assert service_account("system:serviceaccount:shop:web") == SHOP_WEB


class Told:
    """A client's stream over a catalog, as bytes."""

    def __init__(self, catalog, authorization, identity, *, delta, node_namespace=""):
        audience = authorization.audience(identity)
        self.session = ServerSession(catalog, delta=delta, audience=audience)
        self._delta = delta
        self._node = wire_pb2.Node(id="n", user_agent_name="gRPC Go")
        self._node.metadata.fields["namespace"].string_value = node_namespace

    def ask(self, type_url, *names):
        if self._delta:
            request = wire_pb2.DeltaDiscoveryRequest(
                node=self._node, type_url=type_url, resource_names_subscribe=names
            )
        else:
            request = wire_pb2.DiscoveryRequest(
                node=self._node, type_url=type_url, resource_names=names
            )
        self.session.receive(request.SerializeToString())
        return self.all()

    def all(self):
        """Everything that is to be sent now."""
        return list(iter(self.session.next_response, None))


def filled(*services):
    catalog = Catalog()
    for service in services:
        catalog.apply(Updated(Snapshot(service.cluster, (), service=service)))
    catalog.apply(Synced())
    return catalog


TYPES = (type_urls.LDS, type_urls.RDS, type_urls.CDS, type_urls.EDS)
NAMES = ("orders.shop:80", "orders.shop:grpc", "orders.shop", "orders.shop.svc.cluster.local:80")


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("type_url", TYPES)
@pytest.mark.parametrize("name", [*NAMES, "orders.shop:81", "orderz.shop:80", "orders:80", "*"])
def test_denied_is_answered_byte_for_byte_as_absent(type_url, name, delta):
    """Bytes that stay the same whether the Service exists, was deleted, or never was."""
    mine = ServicePort("till", "bank", 80)
    service = ServicePort("orders", "shop", 80, "grpc")
    absent, denied, deleted = filled(mine), filled(mine, service), filled(mine, service)
    deleted.apply(Removed(service.cluster))
    answers = [
        Told(c, Authorization(Policy()), BANK_WEB, delta=delta, node_namespace="shop").ask(
            type_url, name
        )
        for c in (absent, denied, deleted)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert not any(b"orders.shop:80" in m for m in answers[1]) or name == "orders.shop:80"


def test_near_names_are_those_that_the_client_may_see():
    catalog = filled(ServicePort("orders", "shop", 80), ServicePort("orders", "bank", 80))
    told = Told(catalog, Authorization(Policy()), BANK_WEB, delta=True)
    text = b"".join(told.ask(type_urls.LDS, "order.shop:80"))
    assert b"orders.bank:80" in text
    assert b"orders.shop:80" not in text


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("name", ["orders.shop:80", "orders.shop", "*"])
def test_a_policy_change_gives_and_takes_away(name, delta):
    catalog = filled(SHOP)
    authorization = Authorization(Policy(default="all"))
    told = Told(catalog, authorization, BANK_WEB, delta=delta)
    assert b"orders.shop" in b"".join(told.ask(type_urls.CDS, name))

    def now(policy):
        authorization.policy = policy
        catalog.reauthorize()
        assert told.session.changed((SHOP.cluster,))
        return told.all()

    (taken,) = now(Policy())
    if delta:
        removal = wire_pb2.DeltaDiscoveryResponse.FromString(taken)
        expected = "orders.shop:80" if name == "*" else name
        assert list(removal.removed_resources) == [expected]
        assert not removal.resources
    else:
        assert not wire_pb2.DiscoveryResponse.FromString(taken).resources
    (given,) = now(Policy(rules=(Rule("*", services=("orders.shop",)),)))
    assert b"orders.shop" in given


def test_an_export_is_seen_as_soon_as_it_is_made_and_no_longer_than_it_lasts():
    catalog = filled(SHOP)
    told = Told(catalog, Authorization(Policy()), BANK_WEB, delta=True)
    assert not any(b"orders" in m for m in told.ask(type_urls.CDS, "*"))

    def become(service):
        changed = catalog.apply(Updated(Snapshot(service.cluster, (), service=service)))
        told.session.changed(changed)
        return [wire_pb2.DeltaDiscoveryResponse.FromString(m) for m in told.all()]

    (given,) = become(ServicePort("orders", "shop", 80, exported_to=("bank",)))
    assert [r.name for r in given.resources] == ["orders.shop:80"]
    (taken,) = become(SHOP)
    assert list(taken.removed_resources) == ["orders.shop:80"]
