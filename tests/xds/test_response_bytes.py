"""Responses that streams share, and the nonces in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.resources import Resource, content_version
from trimtab.xds.response_bytes import Responses, nonce_of


def resource(content, name="orders.shop:8080"):
    body = f"{name} {content}".encode()
    return Resource(type_urls.EDS, name, content_version(body), body)


def test_streams_that_get_the_same_resource_share_one_response():
    responses = Responses()
    orders = resource("a")
    assert responses.of_one(orders, above=0, delta=False) == responses.of_one(
        orders, above=0, delta=False
    )
    one = responses.of_one(orders, above=0, delta=False)[1]
    assert responses.of_one(orders, above=0, delta=False)[1] is one


def test_the_variants_have_responses_of_their_own():
    responses = Responses()
    orders = resource("a")
    number, raw = responses.of_one(orders, above=0, delta=False)
    plain = wire.DiscoveryResponse.FromString(raw)
    assert (plain.version_info, list(plain.resources), plain.type_url, plain.nonce) == (
        orders.version,
        [orders.body],
        type_urls.EDS,
        nonce_of(number),
    )
    number, raw = responses.of_one(orders, above=0, delta=True)
    delta = wire.DeltaDiscoveryResponse.FromString(raw)
    (told,) = delta.resources
    assert (told.name, told.version, told.resource) == (orders.name, orders.version, orders.body)
    assert (delta.type_url, delta.nonce) == (type_urls.EDS, nonce_of(number))


def test_a_response_too_large_to_keep_is_made_again():
    responses = Responses()
    orders = resource("a" * 100_000)
    first, _ = responses.of_one(orders, above=0, delta=False)
    second, raw = responses.of_one(orders, above=0, delta=False)
    assert second > first
    assert wire.DiscoveryResponse.FromString(raw).resources == [orders.body]


def test_what_is_kept_is_bounded():
    responses = Responses()
    first = resource("a", "s0.shop:80")
    number, _ = responses.of_one(first, above=0, delta=False)
    for i in range(1, 200):
        responses.of_one(resource("a", f"s{i}.shop:80"), above=0, delta=False)
    assert len(responses._made) <= 128
    assert responses.of_one(first, above=0, delta=False)[0] > number


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.booleans(), st.booleans()),
        max_size=60,
    )
)
def test_no_nonce_comes_twice_on_a_stream_whatever_content_comes_again(turns):
    responses = Responses()
    contents = {key: resource(key) for key in "ab"}
    last = [0, 0, 0]
    for stream, content, shared, delta in turns:
        if shared:
            number, raw = responses.of_one(contents[content], above=last[stream], delta=delta)
            kind = wire.DeltaDiscoveryResponse if delta else wire.DiscoveryResponse
            assert kind.FromString(raw).nonce == nonce_of(number)
        else:
            number = responses.next_number()
        assert number > last[stream]
        last[stream] = number


@pytest.mark.parametrize("delta", [False, True])
def test_content_that_changed_under_a_name_is_never_answered_with_the_old(delta):
    responses = Responses()
    responses.of_one(resource("a"), above=0, delta=delta)
    _, raw = responses.of_one(resource("b"), above=0, delta=delta)
    assert resource("b").body in raw
    assert resource("a").body not in raw
