"""The programs in examples/, run as their first lines say."""

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from harness.control_plane import ControlPlane as ControlPlaneProcess
from harness.control_plane import free_addresses
from harness.ports import free_port
from harness.process import Process
from harness.waiting import Unmet, eventually
from http_servers import HttpServers
from trimtab.testing import ControlPlane

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.processes


def environment(plane):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GRPC_XDS", "TRIMTAB_"))}
    return clean | {"TRIMTAB_CONTROL_PLANE": plane.address}


@pytest.fixture
def shop():
    """Three pods of the service that the examples call, and a control plane that knows them."""
    servers = HttpServers()
    try:
        pods = servers.open("a", "b", "c")
        with ControlPlane() as plane:
            plane.set("orders.shop:8080", [pod.target for pod in pods])
            yield plane, pods
    finally:
        servers.close()


@pytest.mark.parametrize("app", ["fastapi_checkout:app", "wsgi:django_checkout:application"])
def test_a_web_service_that_calls_another_spreads_its_requests(app, shop):
    plane, _ = shop
    port = free_port()
    served = subprocess.Popen(
        [sys.executable, "-m", "hypercorn", app, "--bind", f"127.0.0.1:{port}"],
        cwd=EXAMPLES,
        env=environment(plane),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:

        def ask():
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/checkout/7", timeout=5
                ) as got:
                    return json.load(got), got.headers
            except OSError as error:
                return Unmet(error)

        eventually(ask, within=20, what="an answer of the example")
        seen = set()

        def spread():
            seen.add(ask()[0]["orders_said"]["server"])
            return len(seen) == 3 or Unmet(seen)

        # A pod that took long over its first answer is left alone for some seconds.
        eventually(spread, within=20, what="all three pods were asked")
        answers = [ask()[0] for _ in range(30)]
        assert {answer["order"] for answer in answers} == {"7"}
        assert {answer["orders_said"]["host"] for answer in answers} == {"orders.shop:8080"}
        assert ("endpoint-load-metrics" in ask()[1]) == app.startswith("fastapi")
    finally:
        served.terminate()
        output, _ = served.communicate(timeout=20)
    assert "Traceback" not in output


def test_the_servers_control_plane_and_worker_of_the_page_work_together(tmp_path):
    """As examples/README.md has it, on free ports."""
    ports = [str(free_port()) for _ in range(2)]
    manifest = (EXAMPLES / "manifests" / "orders.yaml").read_text()
    for said, port in zip(("15051", "15052"), ports, strict=True):
        assert f"port: {said}" in manifest
        manifest = manifest.replace(f"port: {said}", f"port: {port}")
    (tmp_path / "orders.yaml").write_text(manifest)
    servers = [Process("server", [sys.executable, EXAMPLES / "orders_server.py", p]) for p in ports]
    plane = ControlPlaneProcess(free_addresses(), tmp_path)
    try:
        for server, port in zip(servers, ports, strict=True):
            server.expect(f"orders answers at 127.0.0.1:{port}", within=20)
        plane.start()
        done = subprocess.run(
            [sys.executable, "grpc_worker.py", *map(str, range(40))],
            cwd=EXAMPLES,
            env={**os.environ, "TRIMTAB_CONTROL_PLANE": plane.address},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert [server.terminate() for server in servers] == [0, 0]
    finally:
        plane.stop()
        for server in servers:
            server.kill()
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == sorted(
        f"127.0.0.1:{port}:" for port in ports
    )


def test_the_worker_spreads_its_jobs():
    servers = []
    try:
        for name in ("a", "b", "c"):
            server = grpc.server(ThreadPoolExecutor(8))
            answer = grpc.unary_unary_rpc_method_handler(lambda _r, _c, name=name: name.encode())
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler("Orders", {"Get": answer}),)
            )
            servers.append((server, server.add_insecure_port("127.0.0.1:0")))
            server.start()
        with ControlPlane() as plane:
            plane.set("orders.shop:8080", [f"127.0.0.1:{port}" for _, port in servers])
            done = subprocess.run(
                [sys.executable, "grpc_worker.py", *map(str, range(60))],
                cwd=EXAMPLES,
                env=environment(plane),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
    finally:
        for server, _ in servers:
            server.stop(None).wait()
    assert done.returncode == 0, done.stderr
    jobs = Counter()
    for line in done.stdout.splitlines():
        pod, _, rest = line.partition(": ")
        jobs[pod] = int(rest.split()[0])
    assert sum(jobs.values()) == 60
    assert set(jobs) == {"a", "b", "c"}
