"""A control plane whose log nobody reads goes on, and ends."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.http2_floods import FLOODS, Flood
from harness.manifests import Manifests, Pod
from harness.ports import free_port
from plane import RawClient, assignments, eventually, get, pause
from trimtab.control.config import Address
from trimtab.xds import type_urls

ORDERS = "orders.shop:8080"
START_S, END_S = 30.0, 30.0


def full_pipe():
    """Both ends of a pipe that takes nothing more: whoever writes to it waits for ever."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"\n" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"\n")
    os.set_blocking(write, True)
    return read, write


@contextlib.contextmanager
def serving(manifests):
    """A control plane with such a pipe for its log: process, xDS and admin address, the pipe's read end."""
    read, write = full_pipe()
    xds, admin = (Address("127.0.0.1", free_port()) for _ in range(2))
    command = [sys.executable, "-m", "trimtab", "serve", "--manifests", manifests, "--drain", "0"]
    command += ["--xds", str(xds), "--admin", str(admin), "--log-level", "debug"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=write)
    os.close(write)
    try:
        with os.fdopen(read) as reader:
            yield child, xds, admin, reader
    finally:
        child.kill()
        child.wait()


def flags_of_stderr(pid):
    """As ``open`` knows them."""
    lines = Path(f"/proc/{pid}/fdinfo/2").read_text().splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))


async def until_ready(admin):
    async with asyncio.timeout(START_S):
        while True:
            with contextlib.suppress(OSError):
                if (await get(admin, "/readyz"))[0] == 200:
                    return
            await pause()


@pytest.mark.parametrize("reader", ["asleep", "gone"])
async def test_nobody_waits_for_a_log_that_nobody_reads(tmp_path, reader):
    manifests = Manifests(tmp_path)
    manifests.write("orders", "shop", [Pod("a", 1)])
    with serving(tmp_path) as (child, xds, admin, read):
        if reader == "gone":
            read.close()
        await until_ready(admin)
        async with RawClient(xds) as client:
            stream = client.sotw()
            await stream.hello(type_url=type_urls.EDS, resource_names=[ORDERS])
            answer = await stream.read()
            assert assignments(answer) == {ORDERS: [1]}
            # Each of these is a line of the log.
            for _ in range(10):
                refused = client.sotw()
                await refused.hello(type_url=type_urls.EDS, resource_names=["x" * 100_000])
                await refused.status()
            await stream.ack(answer, resource_names=[ORDERS])
            manifests.write("orders", "shop", [Pod("a", 1), Pod("b", 2)])
            assert assignments(await stream.read()) == {ORDERS: [1, 2]}
        _, _, text = await get(admin, "/metrics")
        (lost,) = re.findall(r"^trimtab_log_lines_dropped_total (\d+)", text, re.MULTILINE)
        assert (int(lost) > 0) == (reader == "gone")
        child.send_signal(signal.SIGTERM)
        await eventually(lambda: child.poll() is not None, within=END_S)
        assert child.returncode == 0


async def test_grpc_s_own_threads_lose_their_lines_rather_than_wait_for_a_reader(tmp_path):
    """It writes a line for each stream that it refuses, in the threads that serve connections."""
    Manifests(tmp_path).write("orders", "shop", [Pod("a", 1)])
    with serving(tmp_path) as (child, xds, admin, _):
        await until_ready(admin)
        assert flags_of_stderr(child.pid) & os.O_NONBLOCK
        with Flood(FLOODS["header_bomb"], str(xds), most=20) as flood:
            await eventually(lambda: flood.sent == 20)
            async with RawClient(xds) as client:
                stream = client.sotw()
                await stream.hello(type_url=type_urls.EDS, resource_names=[ORDERS])
                assert assignments(await stream.read()) == {ORDERS: [1]}


def test_a_pipe_that_others_write_to_stays_as_it_was_for_them():
    read, write = os.pipe()
    program = "from trimtab.control.log_lines import keep_stderr_from_blocking as k; k()"
    program += "; import os; os.write(1, b'%d' % os.get_blocking(2)); os.write(2, b'said')"
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=write, check=False
    )
    try:
        assert done.returncode == 0
        assert done.stdout == b"0"
        assert os.get_blocking(write)
        assert os.read(read, 100) == b"said"
    finally:
        os.close(read)
        os.close(write)
