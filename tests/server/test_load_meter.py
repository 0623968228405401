"""The latency to expect, against the definition."""

from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from trimtab.server.load_meter import LoadMeter


@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 1000)), max_size=100),
    st.integers(0, 100),
)
def test_it_is_the_median_of_the_nine_of_the_last_64_that_met_the_most_alike(samples, found):
    meter = LoadMeter()
    for met, seconds in samples:
        meter.begin()
        meter.end(met, seconds)
    meter.in_flight = found
    newest_first = samples[::-1][:64]
    near = sorted(newest_first, key=lambda sample: abs(sample[0] - found))[:9]
    assert meter.latency == (median(s for _, s in near) if near else None)


def test_a_failed_request_is_no_sample():
    meter = LoadMeter()
    meter.end(meter.begin(), 0.001, counts=False)
    assert meter.latency is None
    assert meter.in_flight == 0
