"""Settings of all tests."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent

# A deadline per example measures the machine, not the code; so does how long it takes to make them.
settings.register_profile(
    "local",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "local")

PROCESSES = {
    file.relative_to(TESTS.parent).as_posix()
    for file in TESTS.rglob("test_*.py")
    if "mark.processes" in file.read_text() and TESTS / "client" not in file.parents
}


class OneChainOfProcesses(LoadScopeScheduling):
    """Control planes, Envoys and their like are one worker's, test after test; the rest goes by files.

    They wait most of the time, in which the other worker computes. The processes of tests/client
    are small servers, and disturb nobody.
    """

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return "processes" if file in PROCESSES else file


def pytest_xdist_make_scheduler(config, log):
    return OneChainOfProcesses(config, log)


@pytest.fixture
def uncollected():
    """Garbage is collected only where the test does it."""
    gc.disable()
    yield
    gc.enable()
