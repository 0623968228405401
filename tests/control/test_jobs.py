"""Background jobs: one that fails ends the process, with its reason.

The faults are put into our own code: no input is known that makes the real parts fail so.
"""

import asyncio
import subprocess
import sys

import pytest

from plane import QueueSource, eventually, get, running, updated
from trimtab.control.jobs import JobError, Jobs
from trimtab.control.server import XdsServer
from trimtab.errors import ConfigError
from trimtab.model import Synced

JOBS = {
    "following the configuration file": "serve.ControlPlane._follow_config",
    "keeping the state file": "last_known.LastKnown.keep",
    "reading load reports of endpoints": "report_streams.ReportStreams.run",
    "looking for clients that don't read": "server.XdsServer.watch_readers",
    "preparing authenticator 0": "authentication._Ready.prepare",
    "reading the sources": "store.Store.run",
    "measuring how late the loop is": "loop_lag.LoopLag.run",
    "looking when the certificate ends": "certificate_end.CertificateEnd.run",
}
FAULTY = """
from trimtab.cli import run
from trimtab.control import serve, {module}
from trimtab.discovery.pause import pause

async def broken(*_):
    await pause(0.5)
    raise RuntimeError("a fault")

{module}.{owner}.{name} = broken
run()
"""


@pytest.mark.processes
@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_fails_ends_the_process_with_its_reason(job, tmp_path):
    module, owner, name = JOBS[job].split(".")
    config, tokens = tmp_path / "config.yaml", tmp_path / "tokens.yaml"
    config.write_text("{}\n")
    tokens.write_text("[]\n")
    (tmp_path / "manifests").mkdir()
    code = FAULTY.format(module=module, owner=owner, name=name)
    command = [sys.executable, "-c", code, "serve", "--manifests", tmp_path / "manifests"]
    command += ["--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config", config]
    command += ["--state", tmp_path / "state"]
    if module in {"authentication", "certificate_end"}:
        command += certified(tmp_path, tokens)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"trimtab: {job} failed: RuntimeError: a fault"
    assert "in broken" in done.stderr  # where, for whoever mends it


def certified(tmp_path, tokens):
    from certificates import Authority  # noqa: PLC0415 - one use

    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    for file, content in zip(files, Authority().issue(), strict=True):
        file.write_bytes(content)
    return ["--tls-cert", files[0], "--tls-key", files[1], "--tokens", tokens]


async def test_it_is_not_healthy_any_more_until_the_process_is_gone(monkeypatch):
    fail = asyncio.Event()

    async def broken(_self):
        await fail.wait()
        raise RuntimeError("a fault")

    monkeypatch.setattr(XdsServer, "watch_readers", broken)
    async with running(QueueSource(updated("orders", 1), Synced())) as plane:
        assert (await get(plane.admin_address, "/healthz"))[0] == 200
        fail.set()
        await eventually(lambda: plane.jobs.failed)
        status, _, body = await get(plane.admin_address, "/healthz")
        assert status == 503
        assert body["reason"] == "looking for clients that don't read failed: RuntimeError: a fault"


async def test_a_job_may_end_well_and_its_failure_ends_the_others():
    ended = asyncio.Event()

    async def well():
        pass

    async def for_ever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def wrong():
        raise ConfigError("bad")

    jobs = Jobs()
    running_ = asyncio.create_task(jobs.run({"a": well(), "b": for_ever()}))
    await asyncio.wait([running_], timeout=0.05)
    assert not running_.done()
    running_.cancel()
    await asyncio.gather(running_, return_exceptions=True)
    assert ended.is_set()
    assert not jobs.failed

    ended.clear()
    with pytest.raises(ConfigError, match="bad"):
        await jobs.run({"a": well(), "b": for_ever(), "c": wrong()})
    assert ended.is_set()


async def test_what_is_no_error_of_ours_is_told_with_the_job_s_name():
    async def wrong():
        raise KeyError("x")

    with pytest.raises(JobError, match="counting failed: KeyError: 'x'"):
        await Jobs().run({"counting": wrong()})


async def test_a_job_that_is_cancelled_from_within_has_failed():
    async def cancelled():
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    async def for_ever():
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        with pytest.raises(JobError, match=r"counting failed: .* was cancelled"):
            await Jobs().run({"counting": cancelled(), "b": for_ever()})
