"""Manifest files are read within limits, and say where they are broken."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trimtab.discovery.documents import MAX_DEPTH, BrokenFile, documents


def yaml(text):
    return documents(text.encode(), json=False)


def refused(data, *, json=False):
    with pytest.raises(BrokenFile) as caught:
        documents(data.encode() if isinstance(data, str) else data, json=json)
    return caught.value


def test_a_file_may_hold_many_documents_and_empty_ones():
    assert yaml("a: 1\n---\n---\n# nothing\n---\nb: 2\n...\n") == [{"a": 1}, {"b": 2}]
    assert yaml("") == []
    assert documents(b' {"a": 1}\n{"b": 2} ', json=True) == [{"a": 1}, {"b": 2}]
    assert documents(b"", json=True) == []


def test_a_byte_order_mark_is_no_matter():
    assert documents(b'\xef\xbb\xbf{"a": 1}', json=True) == [{"a": 1}]
    assert documents(b"\xef\xbb\xbfa: 1", json=False) == [{"a": 1}]


def test_lists_are_opened_and_typed_lists_name_their_items():
    items = [{"kind": "Service", "x": 1}, {"y": 2}]
    found = documents(json.dumps({"kind": "List", "items": items}).encode(), json=True)
    assert found == items
    typed = {"kind": "ServiceList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}}]}
    assert documents(json.dumps(typed).encode(), json=True) == [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    ]


def test_times_stay_text():
    assert yaml("t: 2026-01-01T00:00:00Z\nd: 2026-01-01\n") == [
        {"t": "2026-01-01T00:00:00Z", "d": "2026-01-01"}
    ]


def test_anchors_and_merges_are_read():
    assert yaml("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: *x\n") == [
        {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 1, "b": 2}}
    ]


def bomb(levels, width):
    lines = (f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * width)}]" for i in range(1, levels))
    return "\n".join(["l0: &l0 [x, x]", *lines])


@pytest.mark.parametrize(("levels", "width"), [(9, 9), (30, 2), (4, 200)])
def test_a_billion_laughs_are_refused(levels, width):
    error = refused(bomb(levels, width))
    assert "aliases" in str(error)
    assert 1 < error.line <= levels


def test_a_bomb_of_merges_is_refused():
    lines = ["l0: &l0 {a: 1, b: 2}"]
    lines += [f"l{i}: &l{i} {{<<: [{', '.join([f'*l{i - 1}'] * 20)}]}}" for i in range(1, 9)]
    assert "aliases" in str(refused("\n".join(lines)))


def test_ordinary_use_of_aliases_is_no_bomb():
    text = "a: &a {x: 1}\nb: [" + ", ".join(["*a"] * 5_000) + "]\n"
    assert len(yaml(text)[0]["b"]) == 5_000


def test_each_document_has_its_own_limit():
    one = "a: &a [" + "x, " * 1_000 + "]\nb: [" + "*a, " * 600 + "]\n"
    assert len(yaml("---\n".join([one] * 3))) == 3


def test_an_alias_that_contains_itself_is_refused():
    assert "contains itself" in str(refused("a: &a [1, *a]"))
    assert "contains itself" in str(refused("&a {x: [*a, *a]}"))


def test_an_unknown_alias_is_refused():
    assert refused("a: 1\nb: *nobody\n").line == 2


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "{a: ", "[a, "])
def test_deep_nesting_is_refused_before_it_overflows_anything(opening):
    assert f"{MAX_DEPTH}" in str(refused(opening * 200_000))


def test_deep_nesting_of_json_is_refused():
    refused("[" * 500_000, json=True)
    refused('{"a":' * 500_000, json=True)


def test_nesting_within_the_limit_is_read():
    assert yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    refused("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_a_key_that_stands_twice_is_refused_with_its_line():
    error = refused("a: 1\nb: {c: 1,\n  c: 2}\n")
    assert "'c'" in str(error)
    assert error.line == 3
    assert "'a'" in str(refused('{"a": 1, "a": 2}', json=True))
    assert "'a'" in str(refused('[{"b": {"a": 1, "a": 1}}]', json=True))


def test_equal_keys_in_different_objects_are_fine():
    assert yaml("a: {x: 1}\nb: {x: 1}\n") == [{"a": {"x": 1}, "b": {"x": 1}}]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: [\n", 3), ("a: 1\n\tb: 2\n", 2), ("a: b: c\n", 1), ("ok: 1\n---\n}{\n", 3)],
)
def test_broken_yaml_says_the_line(text, line):
    assert refused(text).line == line


def test_broken_json_says_the_line():
    assert refused('{"a":\n\n}', json=True).line == 3
    assert refused('{"a": 1}\n{"b"\n', json=True).line == 3


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [echo]",
        "a: !!python/name:os.system",
        "a: !!float x",
        "a: !!int ''",
        "a: !!bool perhaps",
        "a: !!timestamp never",
        "? [a]\n: 1",
        "a: =",
        "<<: 3",
        "%YAML 9.9\n---\na",
        "a: \x00",
    ],
)
def test_what_only_yaml_can_say_is_refused_and_never_run(text):
    refused(text)


@pytest.mark.parametrize("data", [b"NaN", b"[Infinity]", b"\xff", b'"\\ud800"', b"1" * 5_000])
def test_json_that_no_api_would_take_is_refused(data):
    refused(data, json=True)


@given(
    st.binary(max_size=80)
    | st.text(alphabet="ab:-[]{}&*!?|>'\"\n #%,<0", max_size=60).map(str.encode)
)
@example(b"\xfe\xff\x00")
def test_any_bytes_are_read_or_refused(data):
    for as_json in (False, True):
        try:
            documents(data, json=as_json)
        except BrokenFile as error:
            assert str(error)  # noqa: PT017 - both outcomes are right
