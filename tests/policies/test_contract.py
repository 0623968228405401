import importlib.util
from pathlib import Path

import pytest

from trimtab import policies

_spec = importlib.util.spec_from_file_location("contract", Path(__file__).with_name("contract.py"))
contract = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(contract)


@pytest.mark.parametrize("name", policies.names())
@pytest.mark.parametrize("promise", contract.PROMISES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("make", [contract.bare, contract.judged], ids=lambda f: f.__name__)
def test_every_policy(promise, make, name):
    promise(make(name))
