import grpc
import pytest

from trimtab.attempt import outcome_of_grpc, pushback_of, report_of
from trimtab.load_report import LoadReport
from trimtab.policies import Outcome

EXPECTED = {
    Outcome.SUCCESS: {"OK"},
    Outcome.CANCELLED: {"CANCELLED"},
    Outcome.TIMEOUT: {"DEADLINE_EXCEEDED"},
    Outcome.OVERLOADED: {"RESOURCE_EXHAUSTED"},
    Outcome.FAILURE: {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"},
}


@pytest.mark.parametrize("status", list(grpc.StatusCode), ids=lambda s: s.name)
def test_every_grpc_status_has_its_meaning(status):
    wanted = next((o for o, names in EXPECTED.items() if status.name in names), Outcome.ANSWERED)
    assert outcome_of_grpc(status.value[0]) is wanted


@pytest.mark.parametrize("code", [-1, 17, 999])
def test_a_status_that_gRPC_does_not_know_is_a_failure(code):  # noqa: N802 - its name
    assert outcome_of_grpc(code) is Outcome.FAILURE


@pytest.mark.parametrize(
    ("trailing", "report"),
    [
        (None, None),
        ((), None),
        ((("x", "y"), ("grpc-status-details-bin", b"1")), None),
        ((("endpoint-load-metrics", "TEXT named_metrics.in_flight=2"),), LoadReport(in_flight=2)),
        ((("grpc-retry-pushback-ms", "1500"),), LoadReport(retry_after=1.5)),
        ((("grpc-retry-pushback-ms", "-1"),), None),
        ((("grpc-retry-pushback-ms", "soon"),), None),
        (
            (("endpoint-load-metrics", "TEXT eps=2"), ("grpc-retry-pushback-ms", "100")),
            LoadReport(eps=2.0, retry_after=0.1),
        ),
    ],
)
def test_trailing_metadata_tells_the_load_and_the_pushback(trailing, report):
    assert report_of(trailing) == report


@pytest.mark.parametrize(
    ("trailing", "wait"),
    [
        (None, None),
        ((("x", "y"),), None),
        ((("grpc-retry-pushback-ms", "0"),), 0.0),
        ((("grpc-retry-pushback-ms", "1500"),), 1.5),
        ((("grpc-retry-pushback-ms", "-1"),), -1.0),
        ((("grpc-retry-pushback-ms", "soon"),), -1.0),
        ((("grpc-retry-pushback-ms", f"{2**31}"),), -1.0),
        ((("grpc-retry-pushback-ms", "9" * 400),), -1.0),
    ],
)
def test_pushback_says_when_to_try_again_or_never(trailing, wait):
    assert pushback_of(trailing) == wait
