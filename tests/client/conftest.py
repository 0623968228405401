import gc
import importlib
import sys
from pathlib import Path

import prometheus_client
import pytest
from grpc_tools import protoc

import trimtab.prometheus
from doors.counting import CountingPod
from doors.scripted import Scripted
from doors.servers import Servers
from doors.survivor import Survivor
from doors.victim import Victims
from otel_memory import Otel

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def echo(tmp_path_factory):
    """The generated modules of echo.proto, as a user's build makes them: (messages, stubs)."""
    out = tmp_path_factory.mktemp("stubs")
    arguments = ["protoc", f"-I{HERE}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main([*arguments, "echo.proto"]) == 0
    sys.path.insert(0, str(out))
    try:
        return importlib.import_module("echo_pb2"), importlib.import_module("echo_pb2_grpc")
    finally:
        sys.path.remove(str(out))


@pytest.fixture
def servers(echo):
    made = Servers(echo)
    yield made
    made.close()


@pytest.fixture
def victims(echo):
    made = Victims(echo)
    yield made
    made.close()


@pytest.fixture
def dead(victims):
    """A server to be killed: its process and target."""
    process, port = victims.start()
    return process, f"127.0.0.1:{port}"


@pytest.fixture
def survivor(echo):
    made = Survivor(echo, "a")
    yield made
    made.stop()


@pytest.fixture
def pods(echo):
    """Two servers, a and b, that count what they execute."""
    made = [CountingPod(echo, name) for name in "ab"]
    yield made
    for pod in made:
        pod.stop()


@pytest.fixture
def scripted():
    """Make a server that answers as it is told, by what ``Scripted`` takes."""
    made = []

    def make(respond):
        made.append(Scripted(respond))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def registry():
    gc.collect()  # channels of other tests that were dropped, perhaps with ports that are used again
    made = prometheus_client.CollectorRegistry()
    remove = trimtab.prometheus.install(made)
    yield made
    remove()


@pytest.fixture
def otel():
    made = Otel()
    yield made
    made.close()
