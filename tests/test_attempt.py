import grpc
import pytest

from trimtab.attempt import outcome_of_grpc
from trimtab.policies import Outcome

EXPECTED = {
    Outcome.SUCCESS: {"OK"},
    Outcome.CANCELLED: {"CANCELLED"},
    Outcome.TIMEOUT: {"DEADLINE_EXCEEDED"},
    Outcome.FAILURE: {"UNKNOWN", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"},
}


@pytest.mark.parametrize("status", list(grpc.StatusCode), ids=lambda s: s.name)
def test_every_grpc_status_has_its_meaning(status):
    wanted = next((o for o, names in EXPECTED.items() if status.name in names), Outcome.ANSWERED)
    assert outcome_of_grpc(status.value[0]) is wanted


@pytest.mark.parametrize("code", [-1, 17, 999])
def test_a_status_that_gRPC_does_not_know_is_a_failure(code):  # noqa: N802 - its name
    assert outcome_of_grpc(code) is Outcome.FAILURE
