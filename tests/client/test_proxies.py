"""A proxy of the environment is for what lies outside of the cluster."""

import pytest

import trimtab
from trimtab.client.channel_spec import options_for

pytestmark = pytest.mark.processes


def test_calls_go_past_the_proxy_of_the_environment(monkeypatch, servers, echo):
    server = servers.open("a")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", ".svc,.cluster.local")
    service = "orders.shop.svc.cluster.local"
    with trimtab.insecure_channel(service, endpoints=[server.target]) as channel:
        reply = echo[1].EchoStub(channel).Say(echo[0].Request(text="x"), timeout=20)
    assert reply.server == "a"


def test_a_caller_who_wants_it_has_it():
    given = [("grpc.enable_http_proxy", 1)]
    assert dict(options_for("orders", given))["grpc.enable_http_proxy"] == 1
