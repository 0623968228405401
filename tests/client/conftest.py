import importlib
import sys
from pathlib import Path

import pytest
from grpc_tools import protoc

from doors.servers import Servers

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
