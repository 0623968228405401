"""What each client rejects is what ``rejections/table.yaml`` says, to the letter."""

import pytest
from rejections.cases import CASES
from rejections.control_plane import ControlPlane
from rejections.observing import node, observe
from rejections.table import PAGE, load, load_behaviours, open_both, page
from rejections.worlds import World

from harness.client import Road
from harness.waiting import eventually

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
    assert PAGE.read_text() == page(load(), load_behaviours()), (
        "run `python -m rejections.table`: see its docstring"
    )


def test_every_guard_is_a_test_that_there_is():
    for case in CASES:
        path, _, name = case.guard.partition("::")
        text = (PAGE.parents[2] / path).read_text()
        assert f"def {name}(" in text, f"{case.name}: {case.guard}"


def test_a_broken_path_expression_ends_a_node_process(backends):
    port = open_both(backends)
    (case,) = [c for c in CASES if c.name == "broken-path-expression"]
    world = World("alone", port)
    case.spoil(world)
    with ControlPlane() as plane:
        plane.publish(*world.resources())
        client = node(plane.address)
        client.begin_call(Road("xds:///alone"))
        process = client._talk.process  # noqa: SLF001 - its end is the subject
        process.expect(r"SyntaxError: Invalid regular expression", within=20)
        eventually(lambda: not process.running, within=20, what="the end of the process")
        assert process.kill() != 0
