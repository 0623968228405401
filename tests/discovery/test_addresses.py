"""Which addresses may be endpoints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import Folded, endpoint_slice, service
from trimtab.discovery.addresses import _checked, endpoint_address


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


@pytest.mark.parametrize("allow_loopback", [False, True])
@pytest.mark.parametrize(("text", "family", "reason"), REFUSED)
def test_what_is_no_pods_address_is_refused(text, family, reason, allow_loopback):
    with pytest.raises(ValueError, match=reason):
        endpoint_address(text, family, allow_loopback=allow_loopback)


@pytest.mark.parametrize(("text", "family"), LOOPBACK)
def test_loopback_is_for_local_development_only(text, family):
    with pytest.raises(ValueError, match="loopback"):
        endpoint_address(text, family)
    assert endpoint_address(text, family, allow_loopback=True)


def test_a_fold_refuses_loopback_unless_told_otherwise():
    documents = [service(), endpoint_slice("a", "127.0.0.1")]
    assert Folded(*documents).targets() == []
    assert Folded(*documents, allow_loopback=True).targets() == ["127.0.0.1:50051"]


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
            return read(text, 4, allow_loopback=allow_loopback)
        except ValueError as error:
            return str(error)

    assert outcome(endpoint_address) == outcome(_checked)
