"""What a server says of its load, with a settable clock."""

import logging
import threading
import time
from contextvars import Context

import pytest
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

from harness.waiting import Deadline
from trimtab.load_codec import decode
from trimtab.server import CpuUtilization, ServerLoad, record_cost
from trimtab.server.costs import collect_costs
from trimtab.server.handlers import with_report
from trimtab.server.rates import RateMeter
from trimtab.testing import FakeClock


def test_the_request_that_is_answered_is_left_out():
    load = ServerLoad(clock=FakeClock())
    first, second = load.begin(), load.begin()
    assert decode(load.end(first, 0.02).text).in_flight == 1
    assert decode(load.end(second, 0.02).text).in_flight == 0


def test_a_signal_may_ask_how_many_requests_failed():
    load = ServerLoad(named={"failed": lambda: load.totals()[1]}, clock=FakeClock())
    said = []

    def ask():
        said.append(load.end(load.begin(), 0.1, failed=True).text)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(20)
    assert ["named_metrics.failed=1" in text for text in said] == [True]


def test_both_forms_say_the_same():
    load = ServerLoad(
        utilization=lambda: 0.5, cpu_utilization=lambda: 0.25, queue=lambda: 3,
        named={"cache": lambda: 0.75}, clock=FakeClock(),
    )  # fmt: skip
    said = load.end(load.begin(), 0.02)
    read = OrcaLoadReport.FromString(said.binary)
    assert read.application_utilization == 0.5
    assert read.cpu_utilization == 0.25
    assert read.named_metrics == {"in_flight": 0, "latency": 0.02, "queue": 3, "cache": 0.75}
    assert "named_metrics.queue=3,named_metrics.cache=0.75" in said.text
    text = decode(said.text)
    assert (text.application_utilization, text.cpu_utilization) == (0.5, 0.25)


def test_slow_signals_are_read_ten_times_a_second_and_a_queue_each_time():
    clock, asked, waiting = FakeClock(), [], iter(range(100))
    load = ServerLoad(
        utilization=lambda: asked.append(1) or 0.5, queue=lambda: next(waiting), clock=clock
    )
    queues = []
    for _ in range(10):
        said = load.end(load.begin(), 0.01)
        queues.append(OrcaLoadReport.FromString(said.binary).named_metrics["queue"])
        clock.advance(0.05)
    assert queues == list(range(10))
    assert len(asked) == 5


@pytest.mark.parametrize("bad", [float("nan"), -1.0, float("inf"), "x"])
def test_a_signal_that_is_ill_is_left_out_and_logged_once(bad, caplog):
    clock, says = FakeClock(), [0.5, bad, bad, 0.7]
    load = ServerLoad(utilization=lambda: says.pop(0), clock=clock)
    seen = []
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            seen.append(OrcaLoadReport.FromString(load.report().binary).application_utilization)
            clock.advance(0.2)
    assert seen == [0.5, 0, 0, 0.7]
    assert [r.getMessage() for r in caplog.records if "application_utilization" in r.getMessage()]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", ["in_flight", "latency", "queue", "a,b"])
def test_a_name_that_is_taken_or_can_t_be_written_is_refused(name):
    with pytest.raises(ValueError, match="metric name"):
        ServerLoad(named={name: lambda: 1.0})


def test_rates_come_near_the_truth_and_go_down_in_silence():
    rates, now = RateMeter(0.0), 0.0
    for n in range(2000):
        now += 0.01
        rates.count(failed=n % 10 == 0)
        rates.sample(now)
    assert rates.requests == pytest.approx(100, rel=0.1)
    assert rates.errors == pytest.approx(10, rel=0.15)
    rates.sample(now + 30)
    assert rates.requests < 1


def test_the_first_request_does_not_look_like_a_flood():
    rates = RateMeter(0.0)
    rates.count(failed=False)
    rates.sample(1e-5)
    assert rates.requests == 0


def test_the_processor_s_utilisation_grows_with_work():
    # As much as the machine gives this process meanwhile: measured within and around.
    around, begun_around = Deadline(0), time.process_time()
    used = CpuUtilization(cores=1)
    within, begun_within = Deadline(0), time.process_time()
    sum(range(3_000_000))
    worked, passed = time.process_time() - begun_within, within.elapsed
    share = used()
    assert worked / around.elapsed <= share
    assert share <= (time.process_time() - begun_around) / passed


def test_costs_are_added_up_and_go_beside_the_report():
    costs = collect_costs()
    record_cost("tokens", 100)
    record_cost("tokens", 20)
    trailers = dict(with_report(ServerLoad(clock=FakeClock()).report(), (), costs))
    read = OrcaLoadReport.FromString(trailers["endpoint-load-metrics-bin"])
    assert read.request_cost == {"tokens": 120}
    assert read.named_metrics == {"in_flight": 0}


def test_a_cost_that_nobody_collects_is_no_error():
    Context().run(record_cost, "tokens", 1)
