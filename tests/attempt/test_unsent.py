"""What proves that a gRPC call reached no application."""

import pytest

from trimtab.attempt import never_left

HERE = "ipv4:10.0.0.1:8080"
TEXT = "failed to connect to all addresses; last error: UNKNOWN: {}: Failed to connect to remote host: Connection refused"


@pytest.mark.parametrize(
    ("target", "named"),
    [(HERE, HERE), ("ipv6:[::1]:80", "ipv6:%5B::1%5D:80"), ("ipv6:[::1]:80", "ipv6:[::1]:80")],
)
def test_a_connection_that_could_not_be_made_to_the_very_endpoint_is_proof(target, named):
    assert never_left(target, 14, TEXT.format(named), ())


@pytest.mark.parametrize(
    "why",
    [
        "UNAVAILABLE: {}: Socket closed",
        "UNAVAILABLE: {}: Handshake read failed (Socket closed)",
        "UNKNOWN: {}: connection attempt timed out before receiving SETTINGS frame",
    ],
)
def test_so_is_one_that_broke_before_it_could_carry_a_call(why):
    assert never_left(
        HERE, 14, f"failed to connect to all addresses; last error: {why.format(HERE)}", ()
    )


@pytest.mark.parametrize(
    ("code", "details", "initial"),
    [
        (14, TEXT.format("ipv4:10.0.0.2:8080"), ()),  # what befell the application's own call
        (14, TEXT.format("ipv4:10.0.0.1:80"), ()),
        (14, TEXT.format("ipv4:110.0.0.1:8080"), ()),
        (14, "orders: " + TEXT.format(HERE), ()),
        (14, TEXT.format("ipv4:10.0.0.2:8080") + f"; UNKNOWN: {HERE}: Socket closed", ()),
        (14, TEXT.format(HERE), (("server", "x"),)),  # a server has begun to answer
        (13, TEXT.format(HERE), ()),
        (14, "Socket closed", ()),
        (14, "RST_STREAM error code 7", ()),
        (14, "", ()),
        (14, None, ()),
        (1, "", ()),
    ],
)
def test_anything_else_is_none(code, details, initial):
    assert not never_left(HERE, code, details, initial)
