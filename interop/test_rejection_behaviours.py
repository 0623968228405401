"""What clients do beside a NACK is what ``rejections/behaviours.yaml`` says."""

import pytest
from rejections.behaviours import KINDS, behave
from rejections.control_plane import ControlPlane
from rejections.notes import NOTES
from rejections.observing import node
from rejections.table import PAGE, load_behaviours, open_both
from rejections.worlds import World

from harness.client import Road
from harness.waiting import eventually

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("client", KINDS)
def test_a_client_behaves_as_the_table_says(client, backends, tmp_path):
    seen = behave(client, open_both(backends), tmp_path)
    assert seen == load_behaviours()[client], "see rejections/table.py to record anew"


def test_outlier_detection_without_success_rate_fields_ends_a_node_process(backends):
    world = World("alone", open_both(backends))
    world.cluster["outlier_detection"] = {"consecutive_5xx": 3, "interval": "0.2s"}
    with ControlPlane() as plane:
        plane.publish(*world.resources())
        client = node(plane.address)
        process = client._talk.process  # noqa: SLF001 - its end is the subject
        try:
            client.begin_call(Road("xds:///alone"))
            process.expect(r"TypeError: Reduce of empty array with no initial value", within=20)
            eventually(lambda: not process.running, within=20, what="the end of the process")
        finally:
            assert process.kill() != 0


def test_every_test_that_a_note_names_is_there():
    for note in NOTES:
        for test in note.tests:
            path, _, name = test.partition("::")
            text = (PAGE.parents[2] / path).read_text()
            assert f"def {name}(" in text, f"{note.title}: {test}"
