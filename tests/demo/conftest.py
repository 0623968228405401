import pytest

from trimtab.demo.experiment import Experiment, Mode
from trimtab.demo.figures import figures, timeline
from trimtab.demo.report import Detail, Machine, Report, setting

SERVERS = {
    Mode.PINNED: (60, 430, 530, 270, 0, 0, 0, 0),
    Mode.ROUND_ROBIN_STALE: (323, 322, 322, 323, 0, 0, 0, 0),
    Mode.ROUND_ROBIN: (161, 161, 162, 161, 161, 161, 161, 162),
    Mode.TRIMTAB: (170, 168, 110, 171, 168, 169, 167, 167),
}


def made_report(*, lag_ms: float = 0.5) -> Report:
    """A report like those of real runs."""
    experiment = Experiment(seed=5)
    modes, details = {}, {}
    for n, mode in enumerate(Mode):
        slow = 2.0 if n < 2 else 0.5 / n
        latencies = [0.021] * 1000 + [slow] * 290
        failed = 290 if n < 2 else 0
        modes[mode.value] = figures(latencies, failed, SERVERS[mode])
        details[mode.value] = Detail(
            learnt_ms=None if n < 2 else 12.5,
            client_lag_p99_ms=lag_ms,
            client_lag_max_ms=lag_ms * 2,
            server_overrun_p99_ms=0.7,
            requests_in_all=1500,
            errors={"DEADLINE_EXCEEDED": failed} if failed else {},
            timeline=timeline([(t / 10, 0.02 + t / 100, False) for t in range(60)], 6.0, 0.25),
        )
    machine = Machine(2, "A <fast> & small processor", "Linux 6.1", "3.11.7", "1.85.1", "0.1.0")
    return Report(
        modes=modes, seed=5, machine=machine, experiment=setting(experiment), details=details
    )


@pytest.fixture
def report() -> Report:
    return made_report()


@pytest.fixture
def report_of_a_busy_machine() -> Report:
    return made_report(lag_ms=40.0)
