"""Any input is an object, a problem that says what is wrong, or none of our business."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kube import endpoint_slice, service
from trimtab.discovery.kube_objects import EndpointSlice, Service, decode
from trimtab.discovery.slices import SliceFold
from trimtab.model import Problem, Snapshot, Updated


def broken(document, *path, value):
    """The document with another value at the path."""
    made = json.loads(json.dumps(document))
    at = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return made


def test_objects_are_read_from_mappings_and_from_bytes():
    for document, kind in ((service(), Service), (endpoint_slice("a", "10.0.0.1"), EndpointSlice)):
        assert isinstance(decode(document), kind)
        assert decode(json.dumps(document).encode()) == decode(document)


@pytest.mark.parametrize(
    ("document", "field", "value"),
    [
        (broken(service(), "spec", "ports", 0, "port", value="80"), "spec.ports[0].port", "'80'"),
        (broken(service(), "spec", "ports", 0, "port", value=True), "spec.ports[0].port", "True"),
        (broken(service(), "spec", "ports", value={}), "spec.ports", "{}"),
        (broken(service(), "spec", "ports", value=[None]), "spec.ports[0]", "None"),
        (
            broken(endpoint_slice("a", "10.0.0.1"), "endpoints", 0, "addresses", value="10.0.0.1"),
            "endpoints[0].addresses",
            "'10.0.0.1'",
        ),
        (
            broken(endpoint_slice("a", "10.0.0.1"), "endpoints", 0, "addresses", value=[7]),
            "endpoints[0].addresses[0]",
            "7",
        ),
        (
            broken(endpoint_slice("a", "10.0.0.1"), "endpoints", value=[None]),
            "endpoints[0]",
            "None",
        ),
        (broken(service(), "metadata", "annotations", value=7), "metadata.annotations", "7"),
        (
            service(annotations={"a": "b", "trimtab.dev/disable": True, "c": None}),
            "metadata.annotations[trimtab.dev/disable]",
            "True",
        ),
        (
            service(annotations={"trimtab.dev/slow-start": 30}),
            "metadata.annotations[trimtab.dev/slow-start]",
            "30",
        ),
        (
            service(annotations={"trimtab.dev/policy": ["p2c"]}),
            "metadata.annotations[...]",
            "{'trimtab.dev/policy': ['p2c']}",
        ),
        (broken(service(), "metadata", "name", value=""), "metadata.name", "''"),
        (broken(service(), "metadata", "name", value=7), "metadata.name", "7"),
        (broken(service(), "metadata", "name", value="a.b"), "metadata.name", "'a.b'"),
        (broken(service(), "metadata", "name", value="a:1"), "metadata.name", "'a:1'"),
        (broken(service(), "metadata", "namespace", value="a.b"), "metadata.namespace", "'a.b'"),
        (broken(service(), "metadata", value=None), "metadata", "None"),
    ],
)
def test_a_problem_names_object_field_and_bad_value(document, field, value):
    problem = decode(document, "x.yaml, document 3")
    assert isinstance(problem, Problem)
    assert document["kind"] in problem.where
    assert "x.yaml, document 3" in problem.where
    assert (problem.field, problem.value) == (field, value)
    assert problem.fix


def test_an_annotation_without_quotes_is_told_to_be_quoted():
    """YAML reads ``on`` as a bool and 30 as a number; Kubernetes takes neither."""
    problem = decode(service(annotations={"trimtab.dev/disable": True}))
    assert "in quotes" in problem.fix


def test_a_problem_names_the_object_that_it_is_about():
    problem = decode(broken(service(), "spec", value=1))
    assert problem.where == "Service shop/orders"


@pytest.mark.parametrize(
    "document",
    [
        {"apiVersion": "v1", "kind": "ConfigMap"},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "a"}},
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "a"}},
        {},
    ],
)
def test_other_kinds_are_none_of_our_business(document):
    assert decode(document) is None


@pytest.mark.parametrize("raw", [7, "text", [], None, b"", b"{", b"[1]", b"\xff"])
def test_what_is_no_object_is_a_problem(raw):
    problem = decode(raw, "x.yaml, document 1")
    assert isinstance(problem, Problem)
    assert problem.where == "x.yaml, document 1"


def test_unknown_fields_and_nulls_are_taken_as_the_api_takes_them():
    document = service() | {"status": {"loadBalancer": {}}, "future": [1]}
    document["metadata"] |= {"labels": {"a": None}, "managedFields": [{}], "namespace": None}
    found = decode(document)
    assert isinstance(found, Service)
    assert found.metadata.namespace == "default"
    assert found.metadata.label("a") == ""
    assert isinstance(decode(broken(service(), "spec", value=None)), Service)


def test_a_problem_stays_short_however_large_the_value():
    problem = decode(broken(service(), "spec", value=["x" * 10_000] * 10_000))
    assert len(str(problem)) < 1_000
    assert len(str(decode(broken(service(), "metadata", "name", value="x" * 10_000)))) < 1_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw):
    """A good object with some of its parts replaced by anything."""
    made = json.loads(
        json.dumps(
            draw(
                st.sampled_from(
                    [
                        service(),
                        service(
                            ipFamilies=["IPv6"],
                            publishNotReadyAddresses=True,
                            trafficDistribution="PreferClose",
                        ),
                        endpoint_slice("a", "10.0.0.1", "10.0.0.2"),
                    ]
                )
            )
        )
    )
    for _ in range(draw(st.integers(1, 3))):
        at = made
        while True:
            steps = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not steps:
                break
            step = draw(st.sampled_from(steps))
            if isinstance(at[step], dict | list) and draw(st.booleans()):
                at = at[step]
                continue
            at[step] = draw(JSON)
            break
    return made


@given(damaged() | JSON)
@settings(max_examples=600, deadline=None)
def test_no_input_breaks_the_decoder_or_the_fold(document):
    problems = []
    good = decode(service("good")), decode(endpoint_slice("good", "10.9.9.9", of="good"))
    fold = SliceFold(problems.append)
    found = decode(document)
    if isinstance(found, Problem):
        str(found).encode()
        assert found.fix
    elif found is not None:
        for obj in (*good, found):
            for event in fold.apply(obj):
                if isinstance(event, Updated):
                    s = event.snapshot
                    assert Snapshot(s.cluster, s.endpoints, s.policy, s.service) == s
        list(fold.loose_ends())
        assert "good.shop:8080" in {s.cluster for s in fold.clusters()}
    for problem in problems:
        str(problem).encode()


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(data):
    assert decode(data) is None or isinstance(decode(data), Problem)
