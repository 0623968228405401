"""What was known last, written and read again; or refused with a reason."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.control.state_file import State, StateError, read_state, write_state
from trimtab.control.verdicts import SavedVerdict
from trimtab.model import (
    Endpoint,
    Health,
    Locality,
    PolicyConfig,
    Repeatable,
    ServicePort,
    Snapshot,
)

ENDPOINTS = st.builds(
    Endpoint,
    address=st.ip_addresses(v=4).map(str),
    port=st.integers(1, 65535),
    locality=st.builds(Locality, st.text(max_size=3), st.text(max_size=3)),
    health=st.sampled_from(Health),
    weight=st.integers(1, 1000),
    labels=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(
        lambda found: tuple(sorted(found.items()))
    ),
    ready_since=st.none() | st.floats(0, 2e9),
    uid=st.text(max_size=3),
)
SNAPSHOTS = st.builds(
    Snapshot,
    st.text(min_size=1, max_size=5),
    st.lists(ENDPOINTS, max_size=4, unique_by=lambda e: e.key).map(tuple),
    st.none() | st.just(PolicyConfig.of("token", zone="off", size=4, judges=False)),
    st.none()
    | st.just(
        ServicePort(
            "orders",
            "shop",
            8080,
            "grpc",
            exported_to=("a", "*"),
            repeatable=Repeatable(("*", "GET"), hedge_quantile=0.95),
        )
    ),
)
VERDICTS = st.builds(SavedVerdict, st.text(max_size=3), st.text(max_size=3), st.floats(0, 2e9))
ONE = State(
    {"here": {"orders.shop:80": Snapshot("orders.shop:80", (Endpoint("10.0.0.1", 80),))}},
    "trimtab",
    (SavedVerdict("f00d", "system:serviceaccount:shop:web", 2000.0),),
)


@given(
    st.lists(SNAPSHOTS, max_size=3, unique_by=lambda s: s.cluster),
    st.text(max_size=3),
    st.lists(VERDICTS, max_size=3).map(tuple),
)
def test_what_is_written_is_read_again(tmp_path_factory, snapshots, audience, verdicts):
    path = tmp_path_factory.getbasetemp() / "any.state"
    known = State({"here": {s.cluster: s for s in snapshots}, "there": {}}, audience, verdicts)
    write_state(path, known, 1000.0)
    assert read_state(path, 1010.0, 60.0) == known


def test_no_file_is_nothing(tmp_path):
    assert read_state(tmp_path / "none", 0.0, 60.0) is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: content[:-1], "its checksum is wrong"),
        (lambda content: content.replace(b"10.0.0.1", b"10.0.0.2"), "its checksum is wrong"),
        (lambda content: content.replace(b"state-2", b"state-9"), "does not begin with"),
        (lambda _: b"", "does not begin with"),
        (lambda _: os.urandom(100), "does not begin with"),
        (lambda content: content.replace(b"shop:web", b"shop:adm"), "its checksum is wrong"),
        (lambda content: content.replace(b" 1000.000", b" never"), "is no time"),
        (lambda content: content.replace(b" 1000.000", b" nan"), "is no time"),
    ],
)
def test_what_is_damaged_is_refused_with_its_name(tmp_path, spoil, reason):
    path = tmp_path / "state"
    write_state(path, ONE, 1000.0)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(StateError, match=rf"state file {path}: .*{reason}"):
        read_state(path, 1000.0, 60.0)


def test_what_is_too_old_is_refused(tmp_path):
    write_state(tmp_path / "state", ONE, 1000.0)
    with pytest.raises(StateError, match="61 s old, and more than 60 s is not believed"):
        read_state(tmp_path / "state", 1061.0, 60.0)


def test_each_source_has_its_own_age_and_who_is_too_old_is_left_out_and_named(tmp_path):
    path, two = tmp_path / "state", State({"here": ONE.sources["here"], "there": {}})
    write_state(path, replace(two, heard={"there": 960.0}), 1000.0)
    assert read_state(path, 1020.0, 60.0).heard == {"here": 1000.0, "there": 960.0}
    later = read_state(path, 1021.0, 60.0)
    assert later.sources == ONE.sources
    assert later.refused == (
        "what source there said is 61 s old, and more than 60 s is not believed",
    )


def test_a_file_of_earlier_versions_is_read_by_the_time_of_its_header(tmp_path):
    body = b'{"sources":{"here":[],"there":[]},"audience":"","verdicts":[]}'
    checksum = hashlib.blake2b(body, digest_size=16).hexdigest()
    (tmp_path / "state").write_bytes(f"trimtab-state-2 {checksum} 1000.000\n".encode() + body)
    assert read_state(tmp_path / "state", 1060.0, 60.0).sources == {"here": {}, "there": {}}
    with pytest.raises(StateError, match="61 s old"):
        read_state(tmp_path / "state", 1061.0, 60.0)


def test_a_clock_that_was_set_makes_no_difference_within_the_age_that_is_believed(tmp_path):
    write_state(tmp_path / "state", ONE, 1000.0)
    assert read_state(tmp_path / "state", 940.0, 60.0) == ONE
    with pytest.raises(StateError, match="61 s from the future, and more than 60 s is not"):
        read_state(tmp_path / "state", 939.0, 60.0)


def test_what_can_t_be_read_is_refused(tmp_path):
    with pytest.raises(StateError, match="Is a directory"):
        read_state(tmp_path, 0.0, 60.0)


def test_nobody_else_may_read_or_write_it(tmp_path):
    path = tmp_path / "state"
    path.touch(0o666)
    write_state(path, ONE, 1000.0)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_the_old_one_and_no_draft(tmp_path):
    path = tmp_path / "state"
    write_state(path, ONE, 1000.0)
    (tmp_path / ".state.draft").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_state(path, State({}), 2000.0)
    assert read_state(path, 1000.0, 60.0) == ONE


def test_writers_at_once_leave_a_whole_file(tmp_path):
    path = tmp_path / "state"
    with ThreadPoolExecutor(4) as writers:
        done = [writers.submit(write_state, path, ONE, 1000.0 + i) for i in range(40)]
    assert [one.result() for one in done] == [None] * 40
    assert read_state(path, 1040.0, 60.0) == ONE
