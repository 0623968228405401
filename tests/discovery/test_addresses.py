"""Which addresses may be endpoints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import Folded, endpoint_slice, service
from trimtab.discovery.addresses import (
    NO_RULES,
    AddressRules,
    _checked,
    endpoint_address,
    endpoint_range,
)
from trimtab.discovery.kubernetes.access import ApiServer, api_address
from trimtab.discovery.kubernetes.credentials import Fixed
from trimtab.discovery.kubernetes.tls import Tls


@pytest.mark.parametrize(
    ("text", "family", "expected"),
    [
        ("10.0.0.1", 4, "10.0.0.1"),
        ("2001:DB8:0:0::1", 6, "2001:db8::1"),
        ("::ffff:10.0.0.1", 6, "10.0.0.1"),
        ("fd00::1", 6, "fd00::1"),
    ],
)
def test_addresses_come_out_in_one_form(text, family, expected):
    assert endpoint_address(text, family) == expected


LOCAL = AddressRules(allow_loopback=True)


def within(*ranges):
    return AddressRules(ranges=tuple(map(endpoint_range, ranges)))


REFUSED = [
    ("169.254.169.254", 4, "link-local"),
    ("fe80::1", 6, "link-local"),
    ("224.0.0.1", 4, "multicast"),
    ("ff02::1", 6, "multicast"),
    ("0.0.0.0", 4, "unspecified"),
    ("::", 6, "unspecified"),
    ("255.255.255.255", 4, "broadcast"),
    ("::ffff:169.254.169.254", 6, "link-local"),
    ("2001:db8::1%eth0", 6, "scope"),
    ("10.0.0.1", 6, "IPv4"),
    ("2001:db8::1", 4, "IPv6"),
    ("example.com", 4, "no IP address"),
    ("10.0.0.01", 4, "no IP address"),
    ("10.0.0.1:80", 4, "no IP address"),
    ("[2001:db8::1]", 6, "no IP address"),
    ("", 4, "no IP address"),
    ("10.0.0.1\x00", 4, "no IP address"),
]
LOOPBACK = [("127.0.0.1", 4), ("127.255.1.2", 4), ("::1", 6), ("::ffff:127.0.0.1", 6)]


@pytest.mark.parametrize("rules", [NO_RULES, LOCAL, within("0.0.0.0/0", "::/0")])
@pytest.mark.parametrize(("text", "family", "reason"), REFUSED)
def test_what_is_no_pods_address_is_refused(text, family, reason, rules):
    with pytest.raises(ValueError, match=reason):
        endpoint_address(text, family, rules)


@pytest.mark.parametrize(("text", "family"), LOOPBACK)
def test_loopback_is_for_local_development_only(text, family):
    for rules in (NO_RULES, within("0.0.0.0/0", "::/0")):
        with pytest.raises(ValueError, match="loopback"):
            endpoint_address(text, family, rules)
    for rules in (LOCAL, within("127.0.0.0/8", "::1/128")):
        assert endpoint_address(text, family, rules)


@pytest.mark.parametrize(
    ("text", "family", "allowed"),
    [
        ("10.1.255.255", 4, True),
        ("10.2.0.0", 4, False),
        ("192.168.0.1", 4, False),
        ("::ffff:10.1.0.1", 6, True),
        ("fd00::1", 6, True),
        ("fe00::1", 6, False),
    ],
)
def test_with_ranges_nothing_outside_of_them_is_an_endpoint(text, family, allowed):
    rules = within("10.1.0.0/16", "fd00::/8")
    if allowed:
        assert endpoint_address(text, family, rules)
    else:
        with pytest.raises(ValueError, match=r"none of the ranges.*10\.1\.0\.0/16, fd00::/8"):
            endpoint_address(text, family, rules)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "shop", "", "10.0.0.0/33"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match=r"give 10\.0\.0\.0/8"):
        endpoint_range(text)


API = AddressRules(api_server=("10.0.0.1", 6443))


def slice_to(port, name="a", of="orders", namespace="shop"):
    addresses = ("10.0.0.1", "10.0.0.2")
    return endpoint_slice(name, *addresses, of=of, namespace=namespace, ports=(("grpc", port),))


def test_no_service_leads_to_the_api_server_but_its_own():
    folded = Folded(service(), slice_to(6443), rules=API)
    assert folded.targets() == ["10.0.0.2:6443"]
    (problem,) = folded.problems
    assert problem.field == "endpoints[0].addresses[0]"
    assert "this is the API server" in str(problem)
    own = service("kubernetes", "default")
    folded = Folded(own, slice_to(6443, of="kubernetes", namespace="default"), rules=API)
    assert not folded.problems


def test_another_port_of_the_api_server_s_machine_may_be_a_pod_s_until_it_is_changed_to_that():
    folded = Folded(service(), slice_to(50051), rules=API)
    assert folded.targets() == ["10.0.0.1:50051", "10.0.0.2:50051"]
    folded.add(slice_to(6443))
    assert folded.targets() == ["10.0.0.2:6443"]


@pytest.mark.parametrize(
    ("server", "proxy", "known"),
    [
        ("https://10.96.0.1", None, ("10.96.0.1", 443)),
        ("https://[FD00::1]:6443/path", None, ("fd00::1", 6443)),
        ("http://127.0.0.1:8001", None, ("127.0.0.1", 8001)),
        ("https://api.example.com:6443", None, None),
        ("https://10.96.0.1", "http://proxy:3128", None),
    ],
)
def test_the_api_server_is_known_by_the_address_in_its_url(server, proxy, known):
    access = ApiServer(
        name="x", server=server, origin="", credentials=Fixed(), tls=Tls(), proxy=proxy
    )
    assert api_address(access) == known


def test_a_fold_refuses_loopback_unless_told_otherwise():
    documents = [service(), endpoint_slice("a", "127.0.0.1")]
    assert Folded(*documents).targets() == []
    assert Folded(*documents, rules=LOCAL).targets() == ["127.0.0.1:50051"]


@given(st.text(max_size=40) | st.ip_addresses().map(str), st.sampled_from([4, 6]))
def test_any_text_is_taken_in_canonical_form_or_refused(text, family):
    try:
        found = endpoint_address(text, family)
    except ValueError:
        return
    assert endpoint_address(found, 6 if ":" in found else 4) == found


octets = st.one_of(
    st.integers(0, 260).map(str), st.sampled_from(["00", "01", "010", "", "٣", "1 "])
)


@given(st.lists(octets, min_size=3, max_size=5).map(".".join), st.booleans())
def test_the_short_way_for_ordinary_addresses_comes_to_the_same(text, allow_loopback):
    def outcome(read):
        try:
            return read(text, 4, LOCAL if allow_loopback else NO_RULES)
        except ValueError as error:
            return str(error)

    assert outcome(endpoint_address) == outcome(_checked)
