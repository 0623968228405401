import pytest

from trimtab import policies
from trimtab.testing import policy_contract


@pytest.mark.parametrize("name", policies.names())
@pytest.mark.parametrize("promise", policy_contract.PROMISES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "make", [policy_contract.bare, policy_contract.judged], ids=lambda f: f.__name__
)
def test_every_policy(promise, make, name):
    promise(make(name))
