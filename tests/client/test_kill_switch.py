"""The kill switch: native channels in place of ours, in a process whose environment says so."""

import json
import os
import subprocess
import sys

import pytest

from doors.servers import Servers
from trimtab.client.bootstrap import Bootstrap, Credentials, Node, Server, load
from trimtab.client.kill_switch import _as_json, disabled, native
from trimtab.errors import ConfigError
from trimtab.testing import ControlPlane

BY_THREADS = """
import json, sys
import grpc, trimtab
sys.path.insert(0, sys.argv[1])
import echo_pb2, echo_pb2_grpc
found = []
for more in ({"endpoints": sys.argv[2:], "policy": "p2c"}, {}):
    with trimtab.insecure_channel("orders.shop:80", **more) as channel:
        stub = echo_pb2_grpc.EchoStub(channel)
        first = stub.Say(echo_pb2.Request(), timeout=20, wait_for_ready=True)
        seen = {stub.Say(echo_pb2.Request(), timeout=20).server for _ in range(50)}
        found.append([type(channel).__module__, sorted(seen)])
print(json.dumps(found))
"""
ON_LOOP = """
import asyncio, json, sys
import grpc, trimtab.aio
sys.path.insert(0, sys.argv[1])
import echo_pb2, echo_pb2_grpc
async def main():
    found = []
    for more in ({"endpoints": sys.argv[2:], "policy": "p2c"}, {}):
        async with trimtab.aio.insecure_channel("orders.shop:80", **more) as channel:
            stub = echo_pb2_grpc.EchoStub(channel)
            await stub.Say(echo_pb2.Request(), timeout=20, wait_for_ready=True)
            seen = {(await stub.Say(echo_pb2.Request(), timeout=20)).server for _ in range(50)}
            found.append([type(channel).__module__, sorted(seen)])
    print(json.dumps(found))
asyncio.run(main())
"""
NATIVE = {BY_THREADS: "grpc._channel", ON_LOOP: "grpc.aio._channel"}


@pytest.fixture
def servers(echo):
    made = Servers(echo)
    yield made.open("a", "b")
    made.close()


@pytest.mark.processes
@pytest.mark.parametrize("program", NATIVE, ids=["threads", "loop"])
@pytest.mark.parametrize("on", [True, False])
def test_with_the_switch_channels_are_grpcs_own_and_reach_the_same_servers(
    program, on, servers, echo
):
    targets = [server.target for server in servers]
    stubs = echo[0].__file__.rpartition("/")[0]
    with ControlPlane() as control_plane:
        control_plane.set("orders.shop:80", targets)
        server = load(control_plane.bootstrap()).servers[0]
        environ = {k: v for k, v in os.environ.items() if not k.startswith("GRPC_XDS")}
        environ |= {"TRIMTAB_CONTROL_PLANE": server.uri, "TRIMTAB_DISABLE": "1" if on else "0"}
        ran = subprocess.run(
            [sys.executable, "-c", program, stubs, *targets],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    (fixed, served), (followed, balanced) = json.loads(ran.stdout)
    assert {fixed == NATIVE[program], followed == NATIVE[program]} == {on}
    assert served == balanced == ["a", "b"]


@pytest.mark.parametrize("value", ["1", "true", "YES", "on", "anything"])
def test_any_other_value_disables(value):
    assert disabled({"TRIMTAB_DISABLE": value})


@pytest.mark.parametrize("value", ["", "0", "false", "No", " off "])
def test_what_says_no_does_not_disable(value):
    assert not disabled({"TRIMTAB_DISABLE": value})
    assert not disabled({})


def test_addresses_become_one_native_target_and_the_callers_options_win():
    where, options = native("orders.shop:80", None, ["10.0.0.1:80", "10.0.0.2:81"], None)
    assert where == "ipv4:10.0.0.1:80,10.0.0.2:81"
    assert dict(options)["grpc.default_authority"] == "orders.shop:80"
    assert "round_robin" in dict(options)["grpc.service_config"]
    assert native("orders", None, ["[fd00::1]:80"], None)[0] == "ipv6:[fd00::1]:80"
    assert native("orders", None, ["pods.shop:80"], None)[0] == "dns:///pods.shop:80"
    mine = [("grpc.service_config", "{}"), ("grpc.default_authority", "mine")]
    assert native("orders", mine, ["10.0.0.1:80"], None)[1] == tuple(mine)


@pytest.mark.parametrize("bad", [[], ["a.shop:80", "b.shop:80"], ["10.0.0.1:80", "[fd00::1]:80"]])
def test_what_no_native_target_can_name_is_refused(bad):
    with pytest.raises(ConfigError, match=r"orders: .*give"):
        native("orders", None, bad, None)


def test_a_bootstrap_is_the_same_after_it_was_written_for_grpc():
    tls = Credentials("tls", "/ca", "/chain", "/key", "/token")
    servers = (Server("10.0.0.1:80", tls, ("xds_v3",)), Server("10.0.0.2:80"))
    made = Bootstrap(servers, Node("me", "web.shop", metadata={"namespace": "shop"}))
    again = load(json.loads(_as_json(made)))
    assert again == made
    assert again.node.metadata == made.node.metadata
