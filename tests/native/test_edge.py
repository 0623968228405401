"""Envoy as an edge, from a route file: requests from outside while everything behind it changes."""

import contextlib
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from harness.client import Road
from harness.control_plane import ControlPlane, free_addresses
from harness.dns import DnsServer, asking
from harness.envoy import Envoy
from harness.manifests import Pod
from harness.ports import free_port
from harness.python_clients import http1_client, native_client
from harness.waiting import Unmet, eventually, pause

pytestmark = pytest.mark.processes


@pytest.fixture
def fallback(backends):
    """What answers while the Service has no pod: a server outside of Kubernetes."""
    (pod,) = backends.open("fallback")
    return {"addresses": [f"127.0.0.1:{pod.port}"], "protocol": "h2c"}


@pytest.fixture
def edge(started, tmp_path):
    """Start an Envoy from a route file with these routes; the way through it.

    ``names`` is the DNS server that it asks; ``manager`` are settings of its HTTP connection manager.
    """

    def start(server, routes, *options, names=None, manager=None):
        address = f"127.0.0.1:{free_port()}"
        path = tmp_path / "routes.yaml"
        file = {"listeners": [address], "admin": f"127.0.0.1:{free_port()}", "routes": routes}
        path.write_text(yaml.safe_dump(file))
        command = [sys.executable, "-m", "trimtab", "bootstrap", "--for", "envoy"]
        command += ["--server", server, "--node-id", "edge", "--routes", path, *options]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        bootstrap = yaml.safe_load(printed.stdout)
        (listener,) = bootstrap["static_resources"]["listeners"]
        listener["filter_chains"][0]["filters"][0]["typed_config"].update(manager or {})
        if names is not None:
            bootstrap["typed_dns_resolver_config"] = asking(names.port)
        envoy = started(Envoy("edge", json.dumps(bootstrap), tmp_path))
        envoy.wait_ready()
        return Road(address)

    return start


@pytest.mark.parametrize("protocol", ["h2c", "http1"])
def test_a_rollout_and_scaling_to_zero_and_back_cost_no_request(
    edge, control_plane, backends, manifests, started, protocol
):
    opened = {"h2c": backends.open, "http1": backends.open_http1}[protocol]
    client = started({"h2c": lambda: native_client(""), "http1": http1_client}[protocol]())
    says = {"h2c": "kubernetes.io/h2c", "http1": "http"}[protocol]

    def tell(*pods):
        manifests.write("web", "shop", pods, port=80, port_name="web", app_protocol=says)

    fallback, a, b = opened("fallback", "a", "b")
    tell(a, b)
    second = {"addresses": [f"127.0.0.1:{fallback.port}"], "protocol": protocol}
    road = edge(control_plane.address, [{"service": "web.shop:80", "fallback": second}])
    with client.load({"edge": road}, rate=100) as load:
        load.comes_from("a", "b")
        c, d = opened("c", "d")
        tell(a.draining(), b, c)
        load.comes_from("b", "c")
        tell(b.draining(), c, d)
        assert backends.close("a") == 0
        load.comes_from("c", "d")
        assert backends.close("b") == 0
        tell()
        load.comes_from("fallback")
        assert backends.close("c") == backends.close("d") == 0
        load.goes_on(50)
        tell(*opened("e"))
        load.comes_from("e")


def test_a_fallback_by_name_is_followed_when_its_address_changes_without_a_failed_request(
    edge, native, control_plane, orders, backends, manifests, started
):
    port = free_port()
    for name, host in (("first", "127.0.0.1"), ("second", "127.0.0.2")):
        backends.open_at(name, f"{host}:{port}")
    names = started(DnsServer("127.0.0.1"))
    fallback = {"addresses": [f"orders.example.net:{port}"], "protocol": "h2c"}
    route = {"service": "orders.shop:8080", "fallback": fallback}
    road = edge(control_plane.address, [route], names=names)
    with native.load({"edge": road}, rate=50) as load:
        load.comes_from("a", "b")
        manifests.write("orders", "shop", [])
        load.comes_from("first")
        names.addresses = ("127.0.0.2",)
        load.comes_from("second", within=15)  # Envoy asks every 5 s
        manifests.write("orders", "shop", orders.values())
        load.comes_from("a", "b")


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_restarts_of_the_control_plane_cost_no_request(
    edge, native, control_plane, orders, backends, manifests, how
):
    road = edge(control_plane.address, [{"service": "orders.shop:8080"}])
    with native.load({"edge": road}, rate=100) as load:
        load.comes_from("a", "b")
        getattr(control_plane, how)()
        load.goes_on(50)
        manifests.write("orders", "shop", [*orders.values(), *backends.open("c")])
        control_plane.start()
        load.comes_from("a", "b", "c", within=20)


def test_an_edge_that_starts_without_its_control_plane_uses_the_fallback_and_then_the_pods(
    edge, native, started, orders, manifests, fallback
):
    addresses = free_addresses()
    road = edge(addresses.xds, [{"service": "orders.shop:8080", "fallback": fallback}])
    native.wait_answer(road, "fallback")
    with native.load({"edge": road}, rate=50) as load:
        load.comes_from("fallback")
        started(ControlPlane(addresses, manifests.path)).start()
        load.comes_from(*orders, within=30)


def test_endpoints_alone_follow_the_pods_as_well(
    edge, native, control_plane, orders, backends, manifests, fallback
):
    route = {"service": "orders.shop:8080", "protocol": "h2c", "fallback": fallback}
    road = edge(control_plane.address, [route], "--endpoints-only")
    a, b = orders.values()
    with native.load({"edge": road}, rate=100) as load:
        load.comes_from("a", "b")
        manifests.write("orders", "shop", [a.draining(), b])
        load.comes_from("b")
        assert backends.close("a") == 0
        manifests.write("orders", "shop", [])
        load.comes_from("fallback")
        manifests.write("orders", "shop", [b])
        load.comes_from("b")


SILENT_S = 2.5


class Http1(BaseHTTPRequestHandler):
    """Tells which protocol and path came; at /silent only after a while."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/silent"):
            pause(SILENT_S)
        body = f"{self.request_version} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def http1_server():
    """Start a server of this process with such a handler."""
    with contextlib.ExitStack() as stack:

        def start(handler):
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield start


@pytest.fixture
def http1(http1_server):
    return Pod("web", http1_server(Http1).server_address[1])


def status(road, path, *, method="GET"):
    """What a request through the edge ends with."""
    data = b"" if method == "POST" else None
    try:
        with urllib.request.urlopen(f"http://{road.target}{path}", data, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_routes_go_by_host_and_path_and_each_service_by_its_app_protocol(
    edge, native, control_plane, orders, manifests, http1
):
    manifests.write("web", "shop", [http1], port=80, port_name="web", app_protocol="http")
    routes = [
        {"service": "web.shop:80", "hosts": ["shop.example.com"], "prefix": "/pages"},
        {"service": "orders.shop:8080", "prefix": "/trimtab.test.Echo"},
    ]
    road = edge(control_plane.address, routes)

    def get(path, host):
        url = f"http://{road.target}{path}"
        request = urllib.request.Request(url, headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def looked():
        answer = get("/pages/1?q=2", "shop.example.com:8080")
        return answer == "HTTP/1.1 /pages/1?q=2" or Unmet(f"{answer}")

    eventually(looked, within=20, what="a page over HTTP/1.1")
    assert get("/pagesandmore", "shop.example.com") == 404
    assert get("/pages/1", "other.example.com") == 404
    assert native.call(road).server in orders


class OncePerConnection(Http1):
    """Answers one request on each connection. At the next it ends, as a kept connection may in that moment."""

    asked = False

    def do_GET(self):
        if self.asked:
            self.server.ended += 1
            self.close_connection = True
        else:
            self.asked = True
            super().do_GET()

    def do_POST(self):
        self.server.posts += 1
        self.do_GET()


def test_a_get_that_meets_the_end_of_a_kept_connection_is_answered_and_a_post_is_sent_once(
    edge, control_plane, manifests, http1_server
):
    server = http1_server(OncePerConnection)
    server.ended = server.posts = 0
    pod = Pod("web", server.server_address[1])
    manifests.write("web", "shop", [pod], port=80, port_name="web", app_protocol="http")
    road = edge(control_plane.address, [{"service": "web.shop:80"}])
    eventually(lambda: status(road, "/") == 200, within=20, what="an answer through the edge")
    assert [status(road, "/") for _ in range(20)] == [200] * 20
    assert server.ended >= 10
    assert {status(road, "/", method="POST") for _ in range(20)} == {200, 503}
    assert server.posts == 20


@pytest.mark.parametrize("table", ["ring", "maglev"])
def test_requests_of_one_key_go_to_one_pod(
    edge, native, control_plane, orders, backends, manifests, table
):
    pods = [*orders.values(), *backends.open("c", "d")]
    hashing = {"policy": "ring_hash", "hash-key": "x-user", "hash-table": table}
    annotations = {f"trimtab.dev/{key}": value for key, value in hashing.items()}
    manifests.write("orders", "shop", pods, annotations=annotations)
    road = edge(control_plane.address, [{"service": "orders.shop:8080", "hash_key": "x-user"}])

    def served():
        roads = [Road(road.target, {"x-user": f"user-{number}"}) for number in range(60)]
        return [native.call(one).server for one in roads]

    # Of 60 keys none is one pod's in one of ten million sets.
    def all_used():
        return set(served()) == {pod.name for pod in pods} or Unmet("not all pods in use")

    eventually(all_used, within=30, what="all pods in use")
    eventually(lambda: served() == served(), within=30, what="each key at its pod")
    assert served() == served()


def test_a_route_without_a_timeout_may_be_silent_for_longer_than_envoy_would_let_it(
    edge, control_plane, manifests, http1
):
    manifests.write("web", "shop", [http1], port=80, port_name="web", app_protocol="http")
    routes = [
        {"service": "web.shop:80", "prefix": "/silent/not", "timeout_s": 0, "idle_timeout_s": 1},
        {"service": "web.shop:80", "prefix": "/silent", "timeout_s": 0},
        {"service": "web.shop:80", "prefix": "/"},
    ]
    # What is 5 min in Envoy unless somebody says otherwise.
    road = edge(control_plane.address, routes, manager={"stream_idle_timeout": "1s"})

    eventually(lambda: status(road, "/") == 200, within=20, what="an answer through the edge")
    assert status(road, "/silent") == 200
    assert status(road, "/silent/not") in (408, 504)
