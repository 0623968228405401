"""Native gRPC's and Envoy's weighted round robin use the reports as they are."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import grpc.aio
import pytest

from harness.envoy import Envoy
from harness.waiting import Deadline
from trimtab.server import LoadReports, ServerLoad, add_load_report_service

# A request takes this share of a server for a second: at 500 requests/s, 0.1 and 0.8 of it.
COSTS = (0.0002, 0.0016)
SHARE_OF_BUSY = 1 / 9  # 1/8 of the other's
WEIGHTED = {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.2s", "errorUtilizationPenalty": 1}
# gRFC A58: reports are then asked for at OpenRcaService, and those of responses are not looked at.
OUT_OF_BAND = {"enableOobLoadReport": True, "oobReportingPeriod": "0.2s"}
MEASURED = 900


class Utilization:
    """How full a server is that does nothing, as if requests took something."""

    def __init__(self, cost):
        self._cost = cost
        self._used, self._since = 0.0, Deadline(0)

    def answer(self, number):
        self._used += self._cost
        return bytes([number])

    def __call__(self):
        used, since = self._used, self._since
        self._used, self._since = 0.0, Deadline(0)
        return used / since.elapsed


class Pair:
    """Two servers; at equal rates, one is eight times as full as the other.

    Args:
        reports: "both forms" with each response; "text only"; or "out of band", and none with responses.
    """

    def __init__(self, reports="both forms"):
        self.ports, self._servers = [], []
        for number, cost in enumerate(COSTS):
            utilization = Utilization(cost)
            load = ServerLoad(utilization=utilization)
            server = grpc.server(
                ThreadPoolExecutor(4),
                interceptors=[LoadReports(load)] if reports == "both forms" else [],
            )
            say = self._say
            if reports == "text only":
                say = partial(self._say_text, load)
            elif reports == "out of band":
                say = partial(self._say_nothing, load)
                add_load_report_service(server, load, least_interval_s=0.1)
            handler = grpc.unary_unary_rpc_method_handler(partial(say, number, utilization))
            service = grpc.method_handlers_generic_handler("Test", {"Who": handler})
            server.add_generic_rpc_handlers((service,))
            self.ports.append(server.add_insecure_port("127.0.0.1:0"))
            server.start()
            self._servers.append(server)

    @staticmethod
    def _say(number, utilization, _request, _context):
        return utilization.answer(number)

    @staticmethod
    def _say_nothing(load, number, utilization, _request, _context):
        load.end(load.begin(), 0.001)
        return utilization.answer(number)

    @staticmethod
    def _say_text(load, number, utilization, _request, context):
        said = load.end(load.begin(), 0.001)
        context.set_trailing_metadata((("endpoint-load-metrics", said.text),))
        return utilization.answer(number)

    def stop(self):
        for server in self._servers:
            server.stop(None).wait(10)


@pytest.fixture
def pair(request):
    made = Pair(getattr(request, "param", "both forms"))
    yield made
    made.stop()


def share_of_busy(channel, *, metadata=()):
    """Of so many calls after the weights were learnt, the share that the busy server got.

    The weights are learnt in some seconds, so it is asked until it settles.
    """
    who, deadline = channel.unary_unary("/Test/Who"), Deadline(80)
    while True:
        got = Counter()
        for _ in range(MEASURED):
            got[who(b"", timeout=5, metadata=metadata, wait_for_ready=True)[0]] += 1
            threading.Event().wait(0.001)
        share = got[1] / MEASURED
        if abs(share - SHARE_OF_BUSY) < 0.03 or deadline.passed:
            return share


@pytest.mark.processes
@pytest.mark.parametrize(
    ("pair", "more"),
    [("both forms", {}), ("out of band", OUT_OF_BAND)],
    indirect=["pair"],
    ids=["per call", "out of band"],
)
def test_native_weighted_round_robin_gives_a_busy_server_an_eighth(pair, more):
    policy = {"weighted_round_robin": {**WEIGHTED, **more}}
    options = [("grpc.service_config", json.dumps({"loadBalancingConfig": [policy]}))]
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in pair.ports)
    with grpc.insecure_channel(target, options=options) as channel:
        assert share_of_busy(channel) == pytest.approx(SHARE_OF_BUSY, abs=0.03)


@pytest.mark.processes
@pytest.mark.parametrize("pair", ["both forms", "text only"], indirect=True)
def test_envoy_s_weighted_round_robin_gives_a_busy_server_an_eighth(pair, tmp_path):
    envoy = Envoy("weighted", bootstrap(pair.ports), tmp_path)
    try:
        envoy.wait_ready()
        road = envoy.road("pair")
        with grpc.insecure_channel(road.target) as channel:
            share = share_of_busy(channel, metadata=tuple(road.metadata.items()))
        assert share == pytest.approx(SHARE_OF_BUSY, abs=0.03)
    finally:
        envoy.stop()


def bootstrap(ports):
    """Envoy with one listener and one cluster: the pair, weighted by its reports."""
    extensions = "type.googleapis.com/envoy.extensions"
    policy = "client_side_weighted_round_robin"
    weighted = {
        "@type": f"{extensions}.load_balancing_policies.{policy}.v3.ClientSideWeightedRoundRobin",
        "blackout_period": "0s",
        "weight_update_period": "0.2s",
        "error_utilization_penalty": 1,
    }
    http2 = {
        "@type": f"{extensions}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cluster = {
        "name": "pair",
        "type": "STATIC",
        "load_balancing_policy": {
            "policies": [{"typed_extension_config": {"name": policy, "typed_config": weighted}}]
        },
        "load_assignment": {
            "cluster_name": "pair",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(port)}} for port in ports]}
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
        },
    }
    router = {"@type": f"{extensions}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "tests",
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "pair"}}],
                }
            ]
        },
    }
    listener = {
        "name": "tests",
        "address": address(0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return json.dumps(
        {
            "admin": {"address": address(0)},
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
        }
    )


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
