import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import grpc
import pytest
import yaml

from command_line import in_process
from harness.envoy import envoy_binary
from harness.manifests import Manifests, Pod
from harness.process import Process
from harness.waiting import Deadline, eventually
from plane import ADS
from trimtab.cli import cli
from trimtab.client.bootstrap import Credentials, load
from trimtab.xds.server_stream import EDS_CLUSTER

pytestmark = pytest.mark.processes

TRIMTAB = [sys.executable, "-m", "trimtab"]
READY = r"^trimtab: serving xDS on (127\.0\.0\.1:\d+), admin on http://(127\.0\.0\.1:\d+)$"
START_S = 60


@pytest.fixture
def manifests(tmp_path):
    (tmp_path / "manifests").mkdir()
    found = Manifests(tmp_path / "manifests")
    found.write("orders", "shop", [Pod("a", 9001), Pod("b", 9002)])
    return found


@pytest.fixture
def serve(manifests):
    started = []

    def start(*arguments, env=None):
        command = [*TRIMTAB, "serve", "--manifests", manifests.path]
        command += ["--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments]
        process = Process("trimtab serve", command, env=env)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.running:
            process.kill()


def run(*arguments, env=None, within=30):
    """Exit code, stdout, stderr."""
    if arguments[0] != "serve":
        return in_process(*arguments, env=env)
    found = subprocess.run(
        [*TRIMTAB, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=within,
        env={**os.environ, **(env or {})},
        check=False,
    )
    return found.returncode, found.stdout, found.stderr


def never(done):
    """Requests that don't come before the test is over."""
    done.wait()
    yield from ()


def page(admin, path):
    try:
        with urllib.request.urlopen(f"http://{admin}{path}", timeout=5) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_serve_says_where_it_answers_and_is_ready_and_sigterm_ends_it_with_0(serve):
    process = serve()
    _, admin = process.expect(READY, within=START_S).groups()
    assert page(admin, "/readyz")[0] == 200
    (cluster,) = page(admin, "/api/v1/clusters")[1]["clusters"]
    assert cluster["name"] == "orders.shop:8080"
    assert process.terminate() == 0
    assert "Traceback" not in process.tail()


def test_serve_watches_over_its_garbage_collector(serve, manifests):
    manifests.write("large", "shop", [Pod(f"pod-{n}", 9001 + n) for n in range(3000)])
    _, admin = serve().expect(READY, within=START_S).groups()

    def pauses():
        with urllib.request.urlopen(f"http://{admin}/metrics", timeout=5) as response:
            found = response.read().decode()
        return float(re.search(r"^trimtab_gc_pause_seconds_count (\S+)$", found, re.MULTILINE)[1])

    eventually(lambda: pauses() > 0, within=10, what="a pause is told")


def test_a_change_on_disk_is_seen_and_a_broken_file_keeps_the_last_good_state(serve, manifests):
    process = serve()
    _, admin = process.expect(READY, within=START_S).groups()

    def ready():
        return page(admin, "/api/v1/clusters")[1]["clusters"][0]["counts"]["ready"]

    manifests.write("orders", "shop", [Pod("a", 9001)])
    eventually(lambda: ready() == 1, within=20, what="one endpoint is left")
    manifests.put("shop-orders.yaml", "kind: [")
    eventually(
        lambda: page(admin, "/api/v1/clusters")[1]["problems"], within=20, what="a problem is shown"
    )
    assert ready() == 1
    code, out, err = run("endpoints", "--server", admin)
    assert code == 0
    assert "orders.shop:8080" in out
    assert "shop-orders.yaml" in err


def test_a_file_that_is_broken_from_the_start_keeps_it_silent_and_readyz_names_it(serve, manifests):
    manifests.put("broken.yaml", "kind: [")
    process = serve()
    admin = process.expect(r"admin on http://(127\.0\.0\.1:\d+); nothing is", within=START_S)[1]
    eventually(
        lambda: "broken.yaml" in page(admin, "/readyz")[1]["reason"],
        within=10,
        what="the reason names the file",
    )
    manifests.put("broken.yaml", "")
    process.expect(READY, within=START_S)
    assert process.terminate() == 0


def test_on_sigterm_it_is_not_ready_while_it_drains_and_a_second_sigterm_is_quick(serve):
    process = serve("--drain", "30")
    xds, admin = process.expect(READY, within=START_S).groups()
    done = threading.Event()
    with grpc.insecure_channel(xds) as channel:
        calls = [
            channel.stream_stream(f"{ADS}/StreamAggregatedResources")(never(done)) for _ in "abc"
        ]
        eventually(
            lambda: len(page(admin, "/api/v1/clients")[1]["clients"]) == 3,
            within=10,
            what="the streams are open",
        )
        os.kill(process._child.pid, signal.SIGTERM)
        _, body = eventually(
            lambda: (found := page(admin, "/readyz"))[0] == 503 and found,
            within=20,
            what="not ready",
        )
        assert "shutting down" in body["reason"]
        deadline = Deadline(20)  # not the 30 s of its draining
        assert process.terminate() == 0
        assert not deadline.passed
        for call in calls:
            assert call.code() is grpc.StatusCode.UNAVAILABLE
        done.set()
    # gRPC itself prints the CancelledError of a call that it cancelled twice; a fault of ours has a frame of ours.
    assert "/trimtab/" not in process.tail()


def test_without_manifests_it_waits_to_be_told_and_names_what_is_missing(tmp_path):
    code, _, err = run("serve")
    assert code == 2
    assert "--manifests" in err
    code, _, err = run(
        "serve",
        "--manifests",
        tmp_path / "nowhere",
        "--xds",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    )
    assert code == 2
    assert "nowhere" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize("flag", ["--xds", "--admin"])
def test_a_port_in_use_is_named_with_its_flag(serve, manifests, flag):
    first = serve()
    xds, admin = first.expect(READY, within=START_S).groups()
    taken = xds if flag == "--xds" else admin
    arguments = {"--xds": "127.0.0.1:0", "--admin": "127.0.0.1:0", flag: taken}
    code, _, err = run(
        "serve",
        "--manifests",
        manifests.path,
        *(part for pair in arguments.items() for part in pair),
    )
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith(f"trimtab: {flag} {taken}: cannot listen there")
    assert "Traceback" not in err


def test_a_bad_configuration_is_refused_before_anything_starts(manifests, tmp_path):
    bad = tmp_path / "trimtab.yaml"
    bad.write_text("clusters: [{name: a, namespace: b, service: c, port: none-of-it!, x: 1}]")
    code, _, err = run("serve", "--manifests", manifests.path, "--config", bad)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"trimtab: {bad}: clusters[0].x: unknown field")


@pytest.mark.parametrize("flag", ["--xds", "--admin"])
def test_plaintext_beyond_loopback_needs_insecure(manifests, flag):
    code, _, err = run("serve", "--manifests", manifests.path, flag, "0.0.0.0:0")
    assert code == 2
    assert "--insecure" in err
    assert "TLS" in err


def test_with_insecure_it_listens_everywhere_and_warns(serve):
    process = serve("--xds", "0.0.0.0:0", "--admin", ":0", "--insecure")
    process.expect(r"xds listens on 0\.0\.0\.0:\d+ and knows nobody", within=START_S)
    process.expect(r"admin listens on :\d+ and knows nobody", within=START_S)
    ready = r"^trimtab: serving xDS on 0\.0\.0\.0:\d+, admin on http://localhost:(\d+)$"
    port = process.expect(ready, within=START_S)[1]
    for host in ("127.0.0.1", "[::1]"):
        with urllib.request.urlopen(f"http://{host}:{port}/readyz") as page:
            assert page.status == 200
    assert process.terminate() == 0


def test_options_come_from_the_environment_and_logs_can_be_json(manifests):
    env = {
        "TRIMTAB_SERVE_MANIFESTS": str(manifests.path),
        "TRIMTAB_SERVE_XDS": "127.0.0.1:0",
        "TRIMTAB_SERVE_ADMIN": "127.0.0.1:0",
        "TRIMTAB_SERVE_LOG_FORMAT": "json",
    }
    process = Process("trimtab serve", [*TRIMTAB, "serve"], env=env)
    try:
        line = process.expect(r"^(.*all sources synced.*)$", within=START_S)[1]
        assert json.loads(line)["level"] == "info"
        line = process.expect(r"^(.*serving xDS on.*)$", within=START_S)[1]
        assert re.match(READY, json.loads(line)["message"])
        assert process.terminate() == 0
    finally:
        process.kill()


def test_endpoints_and_clients_print_tables_or_json(serve):
    process = serve()
    _, admin = process.expect(READY, within=START_S).groups()
    env = {"TRIMTAB_ADMIN": admin}
    code, out, _ = run("endpoints", env=env)
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["CLUSTER", "READY"]
    code, out, _ = run("endpoints", "orders.shop:grpc", env=env)
    assert "127.0.0.1:9001" in out
    code, out, _ = run("endpoints", "--output", "json", env=env)
    assert json.loads(out)["clusters"][0]["counts"]["ready"] == 2
    code, out, err = run("endpoints", "order.shop", env=env)
    assert (code, out) == (1, "")
    assert "similar names: orders.shop:8080" in err
    code, out, _ = run("clients", "--output", "json", env=env)
    assert json.loads(out) == {"clients": []}
    code, out, _ = run("top", "--output", "json", env=env)
    assert json.loads(out) == {"clusters": []}
    code, out, err = run("top", env=env)
    assert (code, out.split()[0]) == (0, "CLUSTER")
    assert "nobody has reported load" in err
    code, out, err = run("clients", env=env)
    assert (code, out.split()[0]) == (0, "CLIENT")
    assert "no client is connected" in err


def test_check_lists_what_serve_would_begin_with_and_exits_with_0(manifests):
    code, out, err = run("check", manifests.path)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "orders.shop:8080: 2 ready",
        "clusters: 1, endpoints: 2, files: 1, rejected: 0, warnings: 0",
    ]


def test_check_names_what_serve_would_reject_and_exits_with_1(manifests):
    manifests.put("broken.yaml", "kind: [")
    code, out, err = run("check", manifests.path)
    assert code == 1
    assert "orders.shop:8080: 2 ready" in out
    assert err.startswith("rejected: ")
    assert "broken.yaml" in err
    code, out, _ = run("check", manifests.path, "--output", "json")
    assert code == 1
    found = json.loads(out)
    assert found["clusters"][0]["counts"]["ready"] == 2
    assert "broken.yaml" in found["problems"][0]["text"]


def test_check_calls_its_path_as_its_help_does(tmp_path):
    code, _, err = run("check", tmp_path / "nowhere")
    assert code == 2
    assert f"PATH {tmp_path / 'nowhere'}: there is no such file or directory" in err


def test_check_warns_of_configured_names_without_a_service(manifests, tmp_path):
    config = tmp_path / "trimtab.yaml"
    config.write_text(
        "clusters:\n"
        "- {name: r-eds, namespace: r, service: r, port: 1}\n"
        "- {name: o-eds, namespace: shop, service: orders, port: grpc}\n"
    )
    code, _, err = run("check", manifests.path, "--config", config)
    assert code == 0
    (line,) = err.splitlines()
    assert line.startswith("warning: clusters[0]: service: r: r-eds is configured as port 1")


def test_check_fails_on_warnings_alone_only_when_strict(manifests):
    assert run("check", manifests.path, "--strict")[0] == 0
    manifests.put(
        "carts.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: carts, namespace: shop}\n"
        "spec: {ports: [{name: grpc, port: 80}]}\n",
    )
    code, out, err = run("check", manifests.path)
    assert code == 0
    assert "rejected: 0, warnings: 1" in out
    assert err.startswith("warning: Service shop/carts: ")
    assert run("check", manifests.path, "--strict")[0] == 1
    assert run("check", manifests.path, env={"TRIMTAB_CHECK_STRICT": "1"})[0] == 1


def test_check_of_what_is_not_there_says_so(tmp_path):
    code, _, err = run("check", tmp_path / "nowhere")
    assert code == 2
    assert err.startswith("trimtab: ")
    assert "nowhere" in err


def test_no_answer_from_the_admin_pages_says_what_to_do():
    code, out, err = run("endpoints", "--server", "127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("trimtab: no answer from the admin pages at 127.0.0.1:1")
    assert "TRIMTAB_ADMIN" in err


def test_the_xds_port_is_told_from_the_admin_port(serve):
    xds, _ = serve().expect(READY, within=START_S).groups()
    code, out, err = run("endpoints", "--server", xds)
    assert (code, out) == (1, "")
    assert f"{xds} does not answer in HTTP/1.1: that is not trimtab's admin port" in err
    assert err.strip().isprintable()


def test_bootstraps_name_the_files_that_client_and_control_plane_know_each_other_by():
    trust = ["--ca", "/t/ca.crt", "--token-file", "/t/token"]
    code, out, _ = run("bootstrap", "--for", "grpc", "--server", "trimtab:18000", *trust)
    assert code == 0
    (server,) = load(json.loads(out)).servers
    assert server.credentials == Credentials("tls", ca_file="/t/ca.crt", token_file="/t/token")
    code, out, _ = run("bootstrap", "--for", "trimtab", "--server", "trimtab:18000", *trust)
    exported = dict(line.removeprefix("export ").split("=") for line in out.splitlines())
    assert load(None, exported).servers[0].credentials == server.credentials
    for alone in (
        trust[2:],
        ["--ca", "/ca", "--key", "/k"],
        ["--certificate", "/c", "--key", "/k"],
    ):
        assert run("bootstrap", "--for", "grpc", *alone)[0] == 2
    code, _, err = run("bootstrap", "--for", "envoy", *trust)
    assert code == 2
    assert "--for envoy-secret" in err
    assert "--secret-file" in err
    assert run("bootstrap", "--for", "envoy-secret")[0] == 2
    assert run("bootstrap", "--for", "envoy", "--secret-file", "/s")[0] == 2


def test_bootstraps_are_what_each_client_reads():
    identity = ["--node-id", "n1", "--zone", "z1", "--namespace", "shop"]
    code, out, _ = run("bootstrap", "--for", "grpc", "--server", "trimtab:18000", *identity)
    assert code == 0
    document = json.loads(out)
    assert document["xds_servers"][0]["server_uri"] == "trimtab:18000"
    assert "xds_v3" in document["xds_servers"][0]["server_features"]
    assert document["node"]["id"] == "n1"
    assert document["node"]["locality"] == {"zone": "z1"}
    assert document["node"]["metadata"] == {"namespace": "shop"}
    code, out, _ = run("bootstrap", "--for", "envoy", "--server", "[::1]:5", *identity)
    document = yaml.safe_load(out)
    assert document["node"]["id"] == "n1"
    (cluster,) = document["static_resources"]["clusters"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "::1", "port_value": 5}
    code, out, _ = run("bootstrap", "--for", "trimtab", "--namespace", "shop")
    assert out.splitlines() == [
        "export TRIMTAB_CONTROL_PLANE=127.0.0.1:18000",
        "export TRIMTAB_NAMESPACE=shop",
    ]
    code, out, err = run("bootstrap", "--for", "trimtab", "--node-id", "n1")
    assert (code, out) == (2, "")
    assert "no node id" in err


def test_a_bootstrap_takes_the_control_planes_that_the_environment_of_a_client_names():
    many = {"TRIMTAB_CONTROL_PLANE": "one:18000, two:18000"}
    code, out, _ = run("bootstrap", "--for", "grpc", env=many)
    assert code == 0
    assert [server.uri for server in load(json.loads(out)).servers] == ["one:18000", "two:18000"]
    code, out, _ = run("bootstrap", "--for", "trimtab", env=many)
    exported = dict(line.removeprefix("export ").split("=") for line in out.splitlines())
    assert [server.uri for server in load(None, exported).servers] == ["one:18000", "two:18000"]
    code, out, err = run("bootstrap", "--for", "envoy", env=many)
    assert (code, out) == (2, "")
    assert "--server one:18000,two:18000: an Envoy takes one address" in err


def test_a_bootstrap_says_which_service_and_node_the_client_is_part_of():
    place = ["--service", "front.shop", "--node-name", "node-7"]
    documents = [
        json.loads(run("bootstrap", "--for", "grpc", *place)[1]),
        yaml.safe_load(run("bootstrap", "--for", "envoy", *place)[1]),
    ]
    for document in documents:
        assert document["node"]["cluster"] == "front.shop"
        assert document["node"]["metadata"] == {"node_name": "node-7"}
    _, out, _ = run("bootstrap", "--for", "trimtab", *place)
    assert out.splitlines()[1:] == [
        "export TRIMTAB_SERVICE=front.shop",
        "export TRIMTAB_NODE_NAME=node-7",
    ]


def test_the_real_envoy_accepts_its_bootstrap_and_the_other_forms_in_its_comments(tmp_path):
    _, out, _ = run("bootstrap", "--for", "envoy", "--zone", "z1", "--namespace", "shop")
    without_ads, clusters = (
        yaml.safe_load("\n".join(line[1:] for line in part.splitlines() if line.startswith("#  ")))
        for part in out.split("\n\n# An ")[1:]
    )
    endpoints_only = yaml.safe_load(out)
    del endpoints_only["dynamic_resources"]
    endpoints_only["static_resources"]["clusters"] += clusters
    assert len(endpoints_only["static_resources"]["clusters"]) == 2
    separate = yaml.safe_load(out)
    separate["node"]["metadata"] |= without_ads["node"]["metadata"]
    separate["dynamic_resources"] = without_ads["dynamic_resources"]
    assert EDS_CLUSTER in separate["node"]["metadata"]
    # State of the world waits where replicas differ (docs/results/never-empty.md); load reports have
    # that form only.
    asked = re.findall(r"(\w+_config|api_config_source):\n(?: *#.*\n)?#? *api_type: (\w+)", out)
    assert asked == [
        ("ads_config", "DELTA_GRPC"),
        ("load_stats_config", "GRPC"),
        ("api_config_source", "DELTA_GRPC"),
        ("api_config_source", "DELTA_GRPC"),
    ]
    for text in (out, yaml.safe_dump(endpoints_only), yaml.safe_dump(separate)):
        config = tmp_path / "envoy.yaml"
        config.write_text(text)
        found = subprocess.run(
            [envoy_binary(), "--mode", "validate", "-c", config],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["bootstrap"],
        ["bootstrap", "--for", "smoke"],
        ["endpoints", "--output", "xml"],
        ["serve", "--manifests", "x", "--xds", "5"],
    ],
)
def test_wrong_use_exits_with_2_and_says_what_is_wrong(arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--manifests", ".", "--config", "nowhere"],
        ["serve", "--manifests", ".", "--tls-cert", "nowhere", "--tls-key", "nowhere"],
        ["serve", "--kubeconfig", "nowhere"],
        ["bootstrap", "--for", "envoy", "--routes", "nowhere"],
        ["endpoints", "--server", "nowhere"],
        ["endpoints", "--token-file", "nowhere"],
        ["simulate", "nowhere.yaml"],
        ["check", "nowhere"],
    ],
)
def test_a_file_that_is_not_there_or_a_value_of_another_form_is_wrong_use_too(arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "nowhere" in err
    assert "Traceback" not in err


def test_help_of_every_command_shows_an_example_and_every_option_an_environment_variable():
    for name, command in cli.commands.items():
        assert f"trimtab {name}" in command.help
        for option in command.params:
            if option.param_type_name == "option":
                assert option.envvar.startswith("TRIMTAB_"), f"{name} {option.opts}"
                assert option.show_envvar, f"{name} {option.opts}"
                assert option.help, f"{name} {option.opts}"


def test_help_does_not_import_what_commands_need():
    script = (
        "import sys; import trimtab.cli as c;"
        "c.cli(['--help'], standalone_mode=False);"
        "print([m for m in ('aiohttp', 'rich', 'yaml', 'watchfiles') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert out.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("missing", ["click", "aiohttp", "yaml"])
def test_a_missing_extra_is_named(missing, manifests):
    script = (
        "import sys;"
        f"sys.modules[{missing!r}] = None;"
        f"sys.argv = ['trimtab', 'serve', '--manifests', {str(manifests.path)!r}];"
        "from trimtab.__main__ import main; main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode == 1
    assert "pip install 'trimtab[control-plane]'" in found.stderr
    assert "Traceback" not in found.stderr


def test_why_says_which_endpoints_are_used_or_which_names_are_near(serve):
    process = serve()
    _, admin = process.expect(READY, within=START_S).groups()
    code, out, err = run("why", "orders.shop", "--from", "nowhere", "--server", admin)
    assert (code, err) == (0, "")
    assert "cluster   orders.shop:8080" in out
    assert "nothing can be used in zone nowhere" in out
    assert "used      2 of 2 endpoints" in out
    assert "no client subscribes to it here" in out
    assert "by capacity: the client's Service is unknown" in out
    mine = ["--from", "z1", "--service", "users.shop", "--server", admin]
    _, out, _ = run("why", "orders.shop", *mine)
    assert "split     " in out
    assert "users.shop" in out
    _, _, err = run("why", "orders.shop", "--service", "users", "--server", admin)
    assert "say SERVICE.NAMESPACE" in err
    code, out, _ = run("why", "orders.shop", "--output", "json", env={"TRIMTAB_ADMIN": admin})
    assert code == 0
    assert [e["used"] for e in json.loads(out)["endpoints"]] == [True, True]
    code, _, err = run("why", "order.shop", "--server", admin)
    assert code == 1
    assert "similar names: orders.shop:8080" in err
