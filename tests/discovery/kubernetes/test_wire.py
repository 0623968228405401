"""Pages and events as the API server sends them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import endpoint_slice, service
from trimtab.discovery.kube_objects import EndpointSlice, Service
from trimtab.discovery.kubernetes.wire import (
    SERVICES,
    SLICES,
    Event,
    Failure,
    decode_event,
    decode_failure,
    decode_heads,
    decode_page,
)
from trimtab.errors import ProtocolError


def item(document, version="7"):
    """As in a list: without kind and apiVersion."""
    found = {k: v for k, v in document.items() if k not in {"kind", "apiVersion"}}
    return {**found, "metadata": {**found["metadata"], "resourceVersion": version}}


def page(*items, version="9", token=""):
    return json.dumps(
        {"metadata": {"resourceVersion": version, "continue": token}, "items": list(items)}
    ).encode()


def event(kind, document, version="7"):
    document["metadata"]["resourceVersion"] = version
    return json.dumps({"type": kind, "object": document}).encode()


def test_a_page_has_its_objects_versions_and_token():
    found = decode_page(SLICES, page(item(endpoint_slice("a", "10.0.0.1")), token="more"))
    assert (found.version, found.next) == ("9", "more")
    assert found.seen == {("shop", "a"): "7"}
    (obj,) = found.objects
    assert isinstance(obj, EndpointSlice)
    assert obj.metadata.resourceVersion == "7"


def test_an_empty_list_may_have_null_items():
    body = b'{"metadata": {"resourceVersion": "9"}, "items": null}'
    assert decode_page(SERVICES, body).objects == []
    assert decode_heads(SERVICES, body).seen == {}


def test_one_bad_object_costs_no_other_and_counts_as_there():
    bad = item(endpoint_slice("bad", "10.0.0.2"))
    bad["endpoints"] = "many"
    found = decode_page(SLICES, page(item(endpoint_slice("a", "10.0.0.1")), bad, None))
    assert [o.metadata.name for o in found.objects] == ["a"]
    assert set(found.seen) == {("shop", "a"), ("shop", "bad")}
    texts = [str(p) for p in found.problems]
    assert any("EndpointSlice shop/bad" in t and "endpoints" in t for t in texts), texts
    assert any("item 2" in t for t in texts), texts


def test_heads_are_the_keys_and_versions_of_the_whole_page():
    body = page(item(service("a"), "3"), item(service("b"), "4"), token="t")
    heads, whole = decode_heads(SERVICES, body), decode_page(SERVICES, body)
    assert heads.seen == whole.seen == {("shop", "a"): "3", ("shop", "b"): "4"}
    assert heads.next == "t"


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_has_its_object_key_and_version(kind):
    found = decode_event(SERVICES, event(kind, service("orders")))
    assert (found.type, found.version, found.key) == (kind, "7", ("shop", "orders"))
    assert isinstance(found.obj, Service)


def test_a_bookmark_is_a_version_and_nothing_else():
    line = json.dumps(
        {
            "type": "BOOKMARK",
            "object": {
                "kind": "EndpointSlice",
                "metadata": {"resourceVersion": "12", "creationTimestamp": None},
                "addressType": "",
                "endpoints": None,
                "ports": None,
            },
        }
    ).encode()
    assert decode_event(SLICES, line) == Event("BOOKMARK", "12")


@pytest.mark.parametrize(
    ("status", "expired"),
    [
        ({"code": 410, "reason": "Expired", "message": "too old resource version: 1 (9)"}, True),
        ({"code": 410, "reason": "Gone"}, True),
        (
            {
                "code": 504,
                "reason": "Timeout",
                "message": "Too large resource version: 99, current: 9",
            },
            True,
        ),
        ({"code": 500, "reason": "InternalError", "message": "etcd is away"}, False),
        ({"code": "410"}, False),
        ({}, False),
    ],
)
def test_an_error_says_whether_only_a_new_list_helps(status, expired):
    line = json.dumps({"type": "ERROR", "object": {"kind": "Status", **status}}).encode()
    found = decode_event(SLICES, line)
    assert isinstance(found, Failure)
    assert found.expired is expired


def test_a_bad_object_is_a_problem_with_its_key():
    document = service("orders")
    document["spec"]["ports"] = 8080
    found = decode_event(SERVICES, event("MODIFIED", document))
    assert (found.key, found.version, found.obj) == (("shop", "orders"), "7", None)
    assert "Service shop/orders" in str(found.problem)
    assert "8080" in str(found.problem)


def test_a_refusal_without_a_status_is_quoted():
    assert decode_failure(b"<html>bad gateway", 502) == Failure(502, "", "<html>bad gateway")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "object", "metadata", "items", "name", "spec", "code"])
            | st.text(max_size=4),
            v,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
def test_whatever_comes_is_read_or_refused_as_a_breach_of_the_protocol(raw):
    for read in (decode_event, decode_page, decode_heads):
        for resource in (SERVICES, SLICES):
            with contextlib.suppress(ProtocolError):
                read(resource, raw)
    assert isinstance(decode_failure(raw), Failure)
