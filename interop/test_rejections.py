"""What each client rejects is what ``rejections/table.yaml`` says, to the letter."""

import pytest
from rejections.observing import observe
from rejections.table import PAGE, load, open_both, page

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("client", list(load()))
def test_a_client_says_and_does_what_the_table_says(client, backends, tmp_path):
    seen, _ = observe(client, open_both(backends), tmp_path)
    expected = load()[client]
    assert seen.keys() == expected.keys()
    differing = {
        name: (seen[name], expected[name]) for name in seen if seen[name] != expected[name]
    }
    assert not differing, f"seen, expected: {differing}; see rejections/table.py to record anew"


def test_the_page_is_made_from_the_table():
    assert PAGE.read_text() == page(load()), "run `python -m rejections.table`: see its docstring"
