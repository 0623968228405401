"""Tables for people: a name is whole, wherever it is printed."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios

import pytest

from harness.manifests import Manifests, Pod
from harness.process import Process
from trimtab.control import tables

SERVICE = "orders-of-the-northern-warehouses"
NAME = f"{SERVICE}.shop:8080"
CLIENT = {
    "node": "checkout-5d8f7c9b6d-xk2vq.shop.europe-west1",
    "kind": "trimtab",
    "peer": "ipv4:127.0.0.1:40000",
    "service": "ADS",
    "transport": "delta",
    "connected_seconds": 61.0,
    "resources": [{"name": NAME, "state": "acked", "state_seconds": 60.0}],
}
LOAD = {
    "cluster": NAME,
    "requests_per_second": 1.0,
    "errors_per_second": 0.0,
    "in_flight": 1.0,
    "latency_seconds": None,
    "max_to_mean": None,
    "cv": None,
    "by": "clients",
    "rows": [],
}


def in_a_terminal(kind, *arguments):
    """What trimtab writes to a terminal of that kind, 30 columns wide."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-m", "trimtab", *arguments]
    with subprocess.Popen(command, stdout=its, env={**env, "TERM": kind}) as process:
        os.close(its)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # how a terminal ends whose program has gone
            pass
    os.close(ours)
    assert process.returncode == 0
    return said.decode()


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_in_a_narrow_terminal_no_name_is_folded_and_no_line_is_filled_up(kind, tmp_path):
    Manifests(tmp_path).write(SERVICE, "shop", [Pod("a", 9001)])
    command = [sys.executable, "-m", "trimtab", "serve", "--manifests", tmp_path]
    process = Process("trimtab serve", [*command, "--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
    try:
        admin = process.expect(r"admin on http://(127\.0\.0\.1:\d+)$", within=20)[1]
        for arguments in (["endpoints"], ["endpoints", NAME], ["why", NAME]):
            said = in_a_terminal(kind, *arguments, "--server", admin)
            said = re.sub("\x1b\\[[0-9;]*m", "", said)  # colours
            assert NAME in said
            lines = said.splitlines()
            heads = [line for line in lines if line.startswith(("CLUSTER", "ENDPOINT"))]
            assert heads
            assert not [line for line in lines if line.endswith(" ")]
            if arguments != ["endpoints"]:
                assert len([line for line in lines if line.startswith("127.0.0.1:9001 ")]) == 1
                assert len([line for line in lines if line.startswith("ENDPOINT ")]) == 1
    finally:
        process.terminate()


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (tables.clients_table([CLIENT] * 2), [CLIENT["node"], CLIENT["peer"], NAME]),
        (tables.load_table([LOAD] * 2), [NAME]),
    ],
    ids=["clients", "top"],
)
def test_each_row_is_one_line_with_whole_names(table, names, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    tables.console().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines[1:]:
        assert all(name in line for name in names)
        assert line == line.rstrip()
    columns = [name for name in lines[0].split("  ") if name]
    assert all(lines[0].index(c) <= len(lines[1]) for c in columns)
