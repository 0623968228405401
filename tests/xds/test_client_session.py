"""The subscriber's side, against scripted control planes of the official messages."""

import contextlib

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from hypothesis import given
from hypothesis import strategies as st
from xds.type.v3 import typed_struct_pb2

from trimtab.errors import ConfigError, ProtocolError
from trimtab.model import Endpoint, Health, Locality, PolicyConfig
from trimtab.xds.client_session import Absent, ClientSession, NodeInfo, Rejected, Resolved
from xds_peer import CDS, EDS, LDS, RDS

NAME = "orders.shop:8080"
CLUSTER = "outbound|8080||orders.shop.svc.cluster.local"
ADS = config_source_pb2.ConfigSource(ads=config_source_pb2.AggregatedConfigSource())


def packed(message):
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped


def routes(cluster=CLUSTER, *domains, name=CLUSTER):
    found = route_pb2.RouteConfiguration(name=name)
    host = found.virtual_hosts.add(name="vh", domains=domains or ["*"])
    route = host.routes.add()
    route.match.prefix = "/"
    route.route.cluster = cluster
    return found


def listener(route_config=None, name=NAME):
    """As istiod sends it: routes apart, unless they are given."""
    connections = hcm_pb2.HttpConnectionManager()
    if route_config is None:
        connections.rds.route_config_name = CLUSTER
        connections.rds.config_source.CopyFrom(ADS)
    else:
        connections.route_config.CopyFrom(route_config)
    found = listener_pb2.Listener(name=name)
    found.api_listener.api_listener.Pack(connections)
    return found


def cluster(name=CLUSTER, endpoints_name="eds-name"):
    return cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(
            eds_config=ADS, service_name=endpoints_name
        ),
    )


def assignment(*groups, name="eds-name"):
    """Groups of (zone, priority, locality weight or None, endpoint tuples or addresses)."""
    found = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    for zone, priority, weight, endpoints in groups:
        group = found.endpoints.add(priority=priority)
        group.locality.region = "r"
        group.locality.zone = zone
        if weight is not None:
            group.load_balancing_weight.value = weight
        for endpoint in endpoints:
            address, port, options = (
                (*endpoint, {})[:3]
                if isinstance(endpoint, tuple)
                else (
                    endpoint,
                    9000,
                    {},
                )
            )
            lb = group.lb_endpoints.add()
            lb.endpoint.address.socket_address.address = address
            lb.endpoint.address.socket_address.port_value = port
            if "weight" in options:
                lb.load_balancing_weight.value = options["weight"]
            lb.health_status = options.get("health", 0)
    return found


ONE = assignment(("a", 0, 1, ["10.0.0.1"]))
TWO = assignment(("a", 0, 2, ["10.0.0.1", "10.0.0.2"]))


class Script:
    """A control plane by hand."""

    def __init__(self, *names):
        self.session = ClientSession(node=NodeInfo(id="me", metadata={"namespace": "shop"}))
        for name in names or [NAME]:
            self.session.watch(name)
        self.session.connected()
        self.nonces = 0
        self.version = 0
        self.read = []

    def requests(self):
        """What the client has written since this was asked last."""
        self.pump()
        read, self.read = self.read, []
        return read

    def pump(self):
        for raw in self.session.take_requests():
            self.read.append(discovery_pb2.DiscoveryRequest.FromString(raw))

    def asked(self):
        return [(r.type_url, list(r.resource_names)) for r in self.requests()]

    def send(self, type_url, *messages, errors=(), version=None):
        self.pump()
        self.nonces += 1
        self.version += 1
        response = discovery_pb2.DiscoveryResponse(
            type_url=type_url,
            version_info=str(self.version) if version is None else version,
            nonce=f"n{self.nonces}",
            resources=[m if isinstance(m, any_pb2.Any) else packed(m) for m in messages],
        )
        for name, code, text in errors:
            error = response.resource_errors.add()
            error.resource_name.name = name
            error.error_detail.code = code
            error.error_detail.message = text
        return self.session.receive(response.SerializeToString())

    def resolve(self):
        """Everything up to endpoints, as istiod would; the requests are taken."""
        self.send(LDS, listener())
        self.send(RDS, routes())
        self.send(CDS, cluster())
        (found,) = self.send(EDS, ONE)
        self.requests()
        return found


def test_a_name_is_followed_through_listener_routes_and_cluster_to_endpoints():
    script = Script()
    (first,) = script.requests()
    assert (first.type_url, list(first.resource_names)) == (LDS, [NAME])
    assert first.node.id == "me"
    assert first.node.user_agent_name == "trimtab"
    assert first.node.metadata["namespace"] == "shop"
    assert script.send(LDS, listener()) == []
    ack, asked = script.requests()
    assert (ack.type_url, ack.response_nonce, ack.version_info) == (LDS, "n1", "1")
    assert not ack.HasField("node")
    assert (asked.type_url, list(asked.resource_names)) == (RDS, [CLUSTER])
    assert script.send(RDS, routes()) == []
    assert script.asked() == [(RDS, [CLUSTER]), (CDS, [CLUSTER])]
    assert script.send(CDS, cluster()) == []
    assert script.asked() == [(CDS, [CLUSTER]), (EDS, ["eds-name"])]
    assert script.session.waiting_for(NAME) == "EDS eds-name"

    (found,) = script.send(EDS, ONE)
    assert found == Resolved(NAME, script.session.snapshots[NAME])
    assert found.snapshot.cluster == CLUSTER
    assert found.snapshot.endpoints == (Endpoint("10.0.0.1", 9000, Locality("r", "a")),)
    assert found.snapshot.policy is None
    assert script.session.waiting_for(NAME) == ""


def test_inline_routes_need_no_request_of_their_own():
    script = Script()
    script.requests()
    script.send(LDS, listener(routes()))

    assert script.asked() == [(LDS, [NAME]), (CDS, [CLUSTER])]


def test_several_localities_and_priorities_are_understood():
    script = Script()
    script.resolve()
    (found,) = script.send(
        EDS,
        assignment(
            ("a", 0, None, [("10.0.0.1", 1, {"health": 1}), ("10.0.0.2", 1, {"health": 2})]),
            ("b", 0, None, [("10.0.0.3", 1, {"health": 3}), ("10.0.0.4", 1, {"health": 5})]),
            ("c", 1, None, [("2001:db8::1", 1, {"weight": 7})]),
        ),
    )

    facts = [(e.address, e.locality.zone, e.priority, e.health) for e in found.snapshot.endpoints]
    assert facts == [
        ("10.0.0.1", "a", 0, Health.READY),
        ("10.0.0.2", "a", 0, Health.UNHEALTHY),
        ("10.0.0.3", "b", 0, Health.DRAINING),
        ("10.0.0.4", "b", 0, Health.DRAINING),
        ("2001:db8::1", "c", 1, Health.READY),
    ]
    assert found.snapshot.endpoints[-1].weight == 7


def test_locality_weights_become_shares_of_their_endpoints():
    script = Script()
    script.resolve()
    (found,) = script.send(
        EDS, assignment(("a", 0, 80, ["10.0.0.1"]), ("b", 0, 20, ["10.0.1.1", "10.0.1.2"]))
    )

    weights = {e.address: e.weight for e in found.snapshot.endpoints}
    assert weights["10.0.0.1"] / weights["10.0.1.1"] == 8
    assert weights["10.0.1.1"] == weights["10.0.1.2"]


def test_unchanged_endpoints_stay_the_same_objects():
    script = Script()
    before = script.resolve().snapshot
    (after,) = script.send(EDS, TWO)

    assert after.snapshot.endpoints[0] is before.endpoints[0]


def test_equal_content_is_not_reported_twice():
    script = Script()
    script.resolve()
    assert script.send(EDS, ONE) == []
    assert script.send(CDS, cluster()) == []


# ---- ACK, NACK ----


def test_every_response_is_answered_in_order():
    script = Script()
    script.resolve()
    script.send(EDS, TWO)
    script.send(EDS, assignment(("a", 0, 1, [("10.0.0.1", 0)])))
    script.send(EDS, ONE)

    answers = [
        (r.response_nonce, r.version_info, r.HasField("error_detail")) for r in script.requests()
    ]
    assert answers == [("n5", "5", False), ("n6", "5", True), ("n7", "7", False)]


BAD = [
    (
        assignment(("a", 0, 1, [("10.0.0.1", 0)])),
        "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: 0 is not in",
    ),
    (
        assignment(("a", 0, 1, [("10.0.0.1", 70000)])),
        "port_value: 70000 is not in 1-65535",
    ),
    (
        assignment(("a", 0, 1, ["orders.shop"])),
        "address: 'orders.shop' is not an IP address",
    ),
    (
        assignment(("a", 0, 1, ["10.0.0.1"]), ("b", 0, 1, ["10.0.0.1"])),
        "endpoints[1].lb_endpoints[0]: 10.0.0.1:9000 is a duplicate of endpoints[0].lb_endpoints",
    ),
    (
        assignment(("a", 0, 1, [("10.0.0.1", 1, {"weight": 0})])),
        "endpoints[0].lb_endpoints[0].load_balancing_weight: 0",
    ),
    (assignment(("a", 0, 0, ["10.0.0.1"])), "endpoints[0].load_balancing_weight: 0"),
    (assignment(("a", 1, 1, ["10.0.0.1"])), "priority 1 is used but not 0"),
    (
        assignment(("a", 0, 1, ["10.0.0.1"]), ("b", 2, 1, ["10.0.0.2"])),
        "priority 2 is used but not 1",
    ),
    (
        assignment(("a", 0, 1, ["10.0.0.1"]), ("a", 0, 1, ["10.0.0.2"])),
        "endpoints[1].locality: r/a/ stands twice in priority 0",
    ),
]


@pytest.mark.parametrize(("bad", "text"), BAD, ids=[text[:40] for _, text in BAD])
def test_bad_endpoints_are_nacked_by_field_and_value_and_the_last_good_state_stays(bad, text):
    script = Script()
    good = script.resolve().snapshot
    (rejected,) = script.send(EDS, bad)

    assert isinstance(rejected, Rejected)
    assert (rejected.type_url, rejected.name, rejected.watches) == (EDS, "eds-name", (NAME,))
    assert text in rejected.reason
    (nack,) = script.requests()
    assert nack.error_detail.code == 3
    assert f"eds-name: {rejected.reason}" == nack.error_detail.message
    assert (nack.response_nonce, nack.version_info) == ("n5", "4")
    assert script.session.snapshots[NAME] == good
    (recovered,) = script.send(EDS, TWO)
    assert isinstance(recovered, Resolved)


def static(found):
    found.type = cluster_pb2.Cluster.STATIC


def custom(found):
    found.cluster_type.name = "envoy.clusters.aggregate"


def by_path(found):
    found.eds_cluster_config.eds_config.path_config_source.path = "/x"


def over_a_stream_of_its_own(found):
    found.eds_cluster_config.eds_config.api_config_source.api_type = 2


def nameless_policy(found):
    policy = found.load_balancing_policy.policies.add().typed_extension_config
    policy.typed_config.Pack(
        typed_struct_pb2.TypedStruct(type_url="type.googleapis.com/trimtab.v1.Policy")
    )


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (static, "type: STATIC is not supported"),
        (custom, "cluster_type: 'envoy.clusters.aggregate' is not supported"),
        (by_path, "eds_cluster_config.eds_config: neither ads nor self"),
        (over_a_stream_of_its_own, "eds_cluster_config.eds_config: neither ads nor self"),
        (nameless_policy, "has no text field 'policy'"),
    ],
)
def test_a_bad_cluster_is_nacked_while_the_good_ones_beside_it_are_used(spoil, text):
    script = Script(NAME, "b")
    script.send(LDS, listener(routes()), listener(routes("b"), name="b"))
    script.requests()
    bad = cluster()
    spoil(bad)
    (rejected,) = script.send(CDS, bad, cluster("b", "b"))

    assert text in rejected.reason
    assert rejected.watches == (NAME,)
    nack, asked = script.requests()
    assert nack.error_detail.message.startswith(f"{CLUSTER}: ")
    assert (asked.type_url, list(asked.resource_names)) == (EDS, ["b"])


def test_our_own_policy_is_read_from_the_list():
    script = Script()
    script.resolve()
    changed = cluster()
    for type_url in ("type.googleapis.com/other.Policy", "type.googleapis.com/trimtab.v1.Policy"):
        ours = typed_struct_pb2.TypedStruct(type_url=type_url)
        ours.value.update({"policy": "p2c", "params": {"choices": 3}})
        changed.load_balancing_policy.policies.add().typed_extension_config.typed_config.Pack(ours)
    (found,) = script.send(CDS, changed)

    assert found.snapshot.policy == PolicyConfig.of("p2c", choices=3)


def no_api_listener(found):
    found.ClearField("api_listener")


def not_http(found):
    found.api_listener.api_listener.Pack(listener_pb2.Listener())


def no_routes(found):
    found.api_listener.api_listener.Pack(hcm_pb2.HttpConnectionManager())


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (no_api_listener, "api_listener: missing"),
        (not_http, "is not an HttpConnectionManager"),
        (no_routes, "route_specifier: neither"),
    ],
)
def test_a_bad_listener_is_nacked(spoil, text):
    script = Script()
    bad = listener()
    spoil(bad)
    (rejected,) = script.send(LDS, bad)

    assert text in rejected.reason
    assert script.session.waiting_for(NAME) == f"LDS {NAME}"


def test_a_resource_of_another_type_is_nacked():
    script = Script()
    (rejected,) = script.send(LDS, packed(cluster()))
    assert "in a response of" in rejected.reason


def test_garbage_in_a_resource_is_nacked():
    script = Script()
    (rejected,) = script.send(LDS, any_pb2.Any(type_url=LDS, value=b"\xff\xff"))
    assert "not a message" in rejected.reason


@given(st.binary(max_size=200))
def test_garbage_never_raises_anything_but_a_protocol_error(raw):
    script = Script()
    script.resolve()
    with contextlib.suppress(ProtocolError):
        script.session.receive(raw)
    for type_url in (LDS, RDS, CDS, EDS):
        script.send(type_url, any_pb2.Any(type_url=type_url, value=raw))
    assert NAME in script.session.snapshots


def test_a_response_of_a_type_that_was_not_asked_for_ends_the_stream():
    with pytest.raises(ProtocolError, match="was not asked for"):
        Script().send("type.googleapis.com/envoy.config.core.v3.Node")


# ---- absence ----


def test_an_error_for_a_listener_says_that_there_is_no_such_service():
    script = Script()
    events = script.send(LDS, errors=[(NAME, 5, "no such thing; near: order.shop")])

    assert events == [Absent(NAME, "no such thing; near: order.shop")]
    assert script.requests()[-1].version_info == "1", "ACKed"
    assert script.send(LDS, errors=[(NAME, 5, "no such thing; near: order.shop")]) == []


@pytest.mark.parametrize("inline", [True, False])
def test_routes_without_a_matching_virtual_host_name_the_service(inline):
    script = Script()
    elsewhere = routes("x", "elsewhere.shop")
    if inline:
        events = script.send(LDS, listener(elsewhere))
    else:
        script.send(LDS, listener())
        events = script.send(RDS, elsewhere)

    (absent,) = events
    assert isinstance(absent, Absent)
    assert NAME in absent.reason
    (resolved,) = [
        script.send(LDS, listener(routes())),
        script.send(CDS, cluster()),
        script.send(EDS, ONE),
    ][-1]
    assert isinstance(resolved, Resolved)


@pytest.mark.parametrize("type_url", [LDS, CDS])
def test_a_removed_resource_is_reported_and_the_last_good_state_stays(type_url):
    script = Script()
    good = script.resolve()
    (absent,) = script.send(type_url)

    assert isinstance(absent, Absent)
    assert "the control plane removed" in absent.reason
    assert script.session.snapshots[NAME] == good.snapshot
    back = script.send(type_url, listener() if type_url == LDS else cluster())
    assert back == [good]


def test_endpoints_that_a_response_leaves_out_stay():
    script = Script()
    good = script.resolve()
    assert script.send(EDS) == []
    assert script.send(RDS) == []
    assert script.session.snapshots[NAME] == good.snapshot


def test_a_passing_error_does_not_touch_what_is_known():
    script = Script()
    script.resolve()
    assert script.send(EDS, errors=[("eds-name", 14, "try later")]) == []


def test_an_empty_assignment_is_an_empty_snapshot():
    script = Script()
    script.resolve()
    (found,) = script.send(EDS, assignment())
    assert found.snapshot.endpoints == ()


# ---- streams, names ----


def test_a_new_stream_asks_everything_again_with_the_accepted_versions():
    script = Script()
    good = script.resolve()
    script.session.disconnected()
    assert script.requests() == []
    script.session.connected()

    asked = script.requests()
    assert [(r.type_url, list(r.resource_names), r.version_info) for r in asked] == [
        (LDS, [NAME], "1"),
        (RDS, [CLUSTER], "2"),
        (CDS, [CLUSTER], "3"),
        (EDS, ["eds-name"], "4"),
    ]
    assert {r.response_nonce for r in asked} == {""}
    assert [r.HasField("node") for r in asked] == [True, False, False, False]
    assert script.session.snapshots[NAME] == good.snapshot


def test_answers_of_a_broken_stream_are_not_sent_on_the_next_one():
    script = Script()
    script.resolve()
    script.send(EDS, TWO)
    script.session.disconnected()
    script.session.connected()

    assert {r.response_nonce for r in script.requests()} == {""}


def test_a_name_that_is_no_longer_watched_is_unsubscribed_with_all_that_it_needed():
    script = Script(NAME, "b")
    script.send(LDS, listener(routes()), listener(routes("b"), name="b"))
    script.send(CDS, cluster(), cluster("b", "b"))
    script.send(EDS, ONE)
    script.requests()
    script.session.unwatch(NAME)

    assert script.asked() == [(LDS, ["b"]), (CDS, ["b"]), (EDS, ["b"])]
    assert NAME not in script.session.snapshots
    assert script.send(EDS, TWO) == []


def test_two_names_of_one_cluster_share_its_subscription():
    script = Script("a", "b")
    script.send(LDS, listener(routes(), name="a"), listener(routes(), name="b"))
    script.send(CDS, cluster())
    events = script.send(EDS, ONE)

    assert [e.name for e in events] == ["a", "b"]
    assert script.asked()[-1] == (EDS, ["eds-name"])


def test_a_route_to_another_cluster_takes_effect_when_its_endpoints_are_there():
    script = Script()
    good = script.resolve()
    assert script.send(RDS, routes("new")) == []
    assert script.send(CDS, cluster("new", "new")) == []
    assert script.session.snapshots[NAME] == good.snapshot
    (found,) = script.send(EDS, assignment(("a", 0, 1, ["10.9.0.1"]), name="new"))

    assert [e.address for e in found.snapshot.endpoints] == ["10.9.0.1"]


def test_resources_that_nobody_asked_for_are_passed_over():
    script = Script()
    script.requests()
    bad = listener(name="other")
    no_api_listener(bad)

    assert script.send(LDS, bad, listener(routes())) == []
    assert not script.requests()[0].HasField("error_detail")


def test_a_node_that_is_not_json_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"node\.metadata"):
        ClientSession(node=NodeInfo(metadata={"x": object()}))
