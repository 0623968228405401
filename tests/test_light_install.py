"""The plain install is the client: what the extras bring must not be needed by it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {
    "PyYAML": "yaml",
    "opentelemetry-api": "opentelemetry",
    "prometheus-client": "prometheus_client",
}
EXTRAS = [
    IMPORTED_AS.get(name, name)
    for name in (
        requirement.partition(">")[0]
        for extra in ("control-plane", "httpx", "httpx2", "aiohttp", "otel", "prometheus")
        for requirement in PROJECT["optional-dependencies"][extra]
    )
]


def run(code):
    """Run code where no module of the extras can be imported."""
    blocked = f"import sys\nfor name in {EXTRAS}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", blocked + code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "module",
    ["trimtab", "trimtab.aio", "trimtab.testing", "trimtab.server.aio", "trimtab.server.asgi"],
)
def test_the_client_imports_without_the_extras(module):
    done = run(f"import {module}")
    assert done.returncode == 0, done.stderr


def test_a_channel_works_without_the_extras():
    done = run(
        "import trimtab\n"
        "with trimtab.insecure_channel('orders', endpoints=['127.0.0.1:1']) as channel:\n"
        "    print(channel)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "1 ready" in done.stdout


def test_the_command_line_says_which_extra_to_install():
    done = run("from trimtab.__main__ import main\nsys.argv = ['trimtab', '--help']\nmain()")
    assert done.returncode == 1
    assert "pip install 'trimtab[control-plane]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp", "otel", "prometheus"])
def test_a_module_of_an_extra_says_which_extra_to_install(name):
    done = run(f"import trimtab.{name}")
    assert done.returncode == 1
    assert f"pip install 'trimtab[{name}]'" in done.stderr
