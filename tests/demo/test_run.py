"""The whole demo, with real processes; and that none of them outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from command_line import in_process

pytestmark = pytest.mark.processes

GONE_WITHIN_S = 10


class Demo:
    """A running ``trimtab demo`` whose processes carry a mark, so that no other's are counted."""

    def __init__(self, temporary: Path, *options: str) -> None:
        self.mark = f"DEMO_TEST={uuid.uuid4()}"
        name, value = self.mark.split("=")
        self.temporary = temporary
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trimtab", "demo", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, name: value, "COLUMNS": "100", "TMPDIR": str(temporary)},
        )

    def wait_for(self, text: str) -> None:
        for line in self.process.stdout:
            if text in line:
                return
        pytest.fail(f"the demo ended without saying {text!r}: {self.process.stderr.read()}")

    def alive(self) -> dict[int, str]:
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if self.mark.encode() in (entry / "environ").read_bytes():
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(entry.name)] = words
            except OSError:  # it ended while we looked
                continue
        return found

    def end(self) -> tuple[int, str, str]:
        out, errors = self.process.communicate(timeout=60)
        return self.process.returncode, out, errors

    def assert_nothing_is_left(self) -> None:
        deadline = time.monotonic() + GONE_WITHIN_S  # noqa: TID251 - real processes, real time
        while left := self.alive():
            assert time.monotonic() < deadline, f"still there: {left}"  # noqa: TID251
            os.sched_yield()


@pytest.fixture
def demo(tmp_path_factory):
    started = []

    def start(*options: str) -> Demo:
        started.append(Demo(tmp_path_factory.mktemp("demo"), *options))
        return started[-1]

    yield start
    for one in started:
        for pid in one.alive():
            os.kill(pid, signal.SIGKILL)
        one.process.communicate()


def test_a_short_run_measures_all_four_modes_and_leaves_nothing(demo, tmp_path):
    files = {kind: tmp_path / f"demo.{kind}" for kind in ("json", "html", "svg")}
    options = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    run = demo("--seconds", "8", "--seed", "3", *options)
    code, out, errors = run.end()
    assert code == 0, errors
    assert run.alive() == {}
    assert list(run.temporary.iterdir()) == []

    told = json.loads(files["json"].read_text())
    modes = told["modes"]
    assert list(modes) == ["pinned", "round_robin_stale", "round_robin", "trimtab"]
    assert told["seed"] == 3
    assert len({figures["requests"] for figures in modes.values()}) == 1
    for name in ("pinned", "round_robin_stale"):
        assert modes[name]["requests_per_server"][4:] == [0, 0, 0, 0]
    for name in ("round_robin", "trimtab"):
        assert all(modes[name]["requests_per_server"])
        assert sum(modes[name]["requests_per_server"]) == modes[name]["requests"]
    assert modes["trimtab"]["error_rate"] == 0
    assert told["details"]["trimtab"]["errors"] == {}
    assert told["details"]["trimtab"]["learnt_ms"] > 0
    assert "starting 8 servers" in out
    assert "Requests per server" in out
    assert "<svg" in files["html"].read_text()
    assert files["svg"].read_text().startswith("<svg")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_ends_in_order_and_leaves_nothing(demo, number):
    run = demo("--seconds", "40")
    run.wait_for("phase 1/4")
    assert len(run.alive()) == 1 + 8 + 2 + 1
    run.process.send_signal(number)
    code, _, errors = run.end()
    assert code == 1
    assert errors == "demo: interrupted; all its processes have ended\n"
    assert run.alive() == {}
    assert list(run.temporary.iterdir()) == []


def test_a_killed_demo_takes_its_processes_with_it(demo):
    run = demo("--seconds", "40")
    run.wait_for("phase 1/4")
    run.process.kill()
    run.process.wait()
    run.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("server_process 5", "server 6"),
        ("load_process", "load process"),
        ("serve", "control plane"),
    ],
)
def test_a_part_that_dies_ends_the_demo_with_its_name(demo, part, name):
    run = demo("--seconds", "40")
    run.wait_for("phase 1/4")
    pid = next(
        pid
        for pid, words in run.alive().items()
        if f"trimtab.demo.{part}" in words or f"tether {part}" in words
    )
    os.kill(pid, signal.SIGKILL)
    code, _, errors = run.end()
    assert code == 1
    assert f"demo: {name}" in errors
    assert "exit code -9" in errors
    assert "Traceback" not in errors
    assert run.alive() == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seconds", "2"], "seconds 2 is not from 4 to 3600"),
        (["--seconds", "soon"], "'soon' is not a valid"),
        (["--json", "/does/not/exist.json"], "the directory /does/not does not exist"),
        (["--html", "/"], "is a directory"),
    ],
)
def test_wrong_use_is_said_at_once(options, said):
    code, out, errors = in_process("demo", *options)
    assert code == 2
    assert said in errors
    assert "starting" not in out
