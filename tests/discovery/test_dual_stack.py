"""A pod with an IPv4 and an IPv6 address is one endpoint."""

import pytest

from kube import Folded, endpoint, endpoint_slice, service
from trimtab.model import Health

DUAL = service(ipFamilies=["IPv4", "IPv6"])


def slices(v4, v6):
    return (
        endpoint_slice("four", *v4),
        endpoint_slice("six", *v6, addressType="IPv6"),
    )


def seen(folded):
    return [
        (e.address, e.additional_addresses) for e in folded.clusters["orders.shop:8080"].endpoints
    ]


PAIR = slices([endpoint("10.0.0.1", uid="u")], [endpoint("2001:db8::1", uid="u")])


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("families", "expected"),
    [
        (["IPv4", "IPv6"], [("10.0.0.1", ("2001:db8::1",))]),
        (["IPv6", "IPv4"], [("2001:db8::1", ("10.0.0.1",))]),
        (["IPv4"], [("10.0.0.1", ("2001:db8::1",))]),
        (None, [("10.0.0.1", ("2001:db8::1",))]),
    ],
)
def test_the_services_first_family_leads(families, expected, order):
    assert seen(Folded(service(ipFamilies=families), *PAIR[::order])) == expected


def test_a_changed_family_order_changes_who_leads():
    folded = Folded(DUAL, *PAIR).add(service(ipFamilies=["IPv6", "IPv4"]))
    assert seen(folded) == [("2001:db8::1", ("10.0.0.1",))]


def test_an_address_that_goes_leaves_the_other_and_comes_back_to_it():
    folded = Folded(DUAL, *PAIR)
    assert seen(folded.add(slices([], [])[0])) == [("2001:db8::1", ())]
    assert seen(folded.add(PAIR[0])) == [("10.0.0.1", ("2001:db8::1",))]
    assert seen(folded.delete(PAIR[1])) == [("10.0.0.1", ())]
    assert seen(folded.delete(PAIR[0])) == []


def test_without_a_uid_nothing_says_what_belongs_together():
    folded = Folded(DUAL, *slices(["10.0.0.1"], ["2001:db8::1"]))
    assert seen(folded) == [("10.0.0.1", ()), ("2001:db8::1", ())]


def test_different_pods_stay_apart():
    folded = Folded(
        DUAL, *slices([endpoint("10.0.0.1", uid="a")], [endpoint("2001:db8::1", uid="b")])
    )
    assert seen(folded) == [("10.0.0.1", ()), ("2001:db8::1", ())]


def test_several_addresses_of_one_family_are_never_joined():
    both = slices(
        [endpoint("10.0.0.1", uid="u"), endpoint("10.0.0.2", uid="u")],
        [endpoint("2001:db8::1", uid="u")],
    )
    folded = Folded(DUAL, *both)
    assert seen(folded) == [("10.0.0.1", ()), ("10.0.0.2", ()), ("2001:db8::1", ())]
    assert seen(folded.add(PAIR[0])) == [("10.0.0.1", ("2001:db8::1",))]
    assert seen(folded.add(both[0])) == [("10.0.0.1", ()), ("10.0.0.2", ()), ("2001:db8::1", ())]


def test_an_address_that_passes_to_another_pod_leaves_the_first():
    folded = Folded(DUAL, *PAIR)
    folded.add(endpoint_slice("four", endpoint("10.0.0.1", uid="new")))
    assert seen(folded) == [("10.0.0.1", ()), ("2001:db8::1", ())]


def test_ports_that_differ_by_family_stay_apart():
    six = endpoint_slice(
        "six", endpoint("2001:db8::1", uid="u"), addressType="IPv6", ports=[("grpc", 9)]
    )
    assert seen(Folded(DUAL, PAIR[0], six)) == [("10.0.0.1", ()), ("2001:db8::1", ())]


def test_a_change_of_health_reaches_the_joined_endpoint():
    folded = Folded(DUAL, *PAIR)
    folded.add(endpoint_slice("four", endpoint("10.0.0.1", uid="u", ready=False)))
    (found,) = folded.clusters["orders.shop:8080"].endpoints
    assert found.health is Health.UNHEALTHY
    assert found.additional_addresses == ("2001:db8::1",)
