"""What a person sees while the demo runs."""

import io
import re

from rich.console import Console

from trimtab.demo.experiment import Experiment, Mode
from trimtab.demo.processes import environment
from trimtab.demo.run import Progress
from trimtab.demo.view import LiveView, PlainView

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def at(elapsed_s, *, present=8, mode=Mode.ROUND_ROBIN, waiting=130):
    return Progress(
        mode=mode,
        elapsed_s=elapsed_s,
        received=(82, 81, 82, 79, 19, 20, 19, 17),
        in_flight=(4, 3, 4 + waiting, 0, 1, 2, 0, 4),
        present=present,
        answered=289,
        failed=7,
        recent_ms=(21.0, 33.0, 359.0),
    )


def drawn(*steps):
    """The last picture in a terminal of 80 columns."""
    out = io.StringIO()
    with LiveView(Experiment(), Console(file=out, force_terminal=True, width=80)) as view:
        for step in steps:
            out.seek(0)
            out.truncate()
            step(view)
        text = out.getvalue()
    return ESCAPES.sub("", text)


def test_starting_is_shown_before_anything_runs():
    seen = drawn(lambda v: v.starting("control plane"), lambda v: v.starting("8 servers"))
    assert "starting control plane" in seen
    assert "starting 8 servers" in seen


def test_the_running_phase_shows_its_time_servers_and_queues():
    seen = drawn(lambda v: v.running(at(2.4)))
    assert "2.4 of 6 s" in seen
    assert re.search(r"3 slow +█+ +82 +●●●● +130", seen)
    assert re.search(r"5 new .* 19 +●···", seen)
    assert "289 answered, 7 failed" in seen
    assert max(map(len, seen.splitlines())) <= 80


def test_servers_that_are_not_there_yet_are_said_so():
    seen = drawn(lambda v: v.running(at(0.3, present=4)))
    assert seen.count("not there yet") == 4


def test_a_phase_that_only_waits_says_for_what():
    assert "waiting for 148 late requests" in drawn(lambda v: v.running(at(6.5)))


def test_a_finished_phase_keeps_its_line(report):
    pinned = report.modes["pinned"]
    seen = drawn(
        lambda v: v.running(at(1.0, mode=Mode.PINNED)),
        lambda v: v.measured(Mode.PINNED, pinned, report.details["pinned"]),
        lambda v: v.running(at(0.1, mode=Mode.ROUND_ROBIN_STALE)),
    )
    assert re.search(r"✓ +pinned +max/mean 3.29, p99 2,000 ms, errors 22.5%", seen)


def test_logs_get_a_line_per_event_and_none_per_tick(report):
    out = io.StringIO()
    with PlainView(Experiment(), Console(file=out, width=100)) as view:
        for tick in range(20):
            view.running(at(tick / 10, present=4 if tick < 10 else 8))
        view.running(at(2, present=0))  # they are being stopped
        view.measured(Mode.ROUND_ROBIN, report.modes["round_robin"], report.details["round_robin"])
    assert out.getvalue().splitlines() == [
        "phase 3/4 round_robin: 4 servers",
        "phase 3/4 round_robin: 8 servers",
        "  round_robin: max/mean 1.00, p99 250 ms, errors 0.0%",
    ]


def test_a_users_own_settings_do_not_make_it_another_experiment():
    mine = {
        "PATH": "/bin",
        "TRIMTAB_DISABLE": "1",
        "GRPC_XDS_BOOTSTRAP": "/elsewhere",
        "https_proxy": "http://proxy",
        "GRPC_PROXY": "http://proxy",
    }
    assert environment(mine) == {"PATH": "/bin"}
