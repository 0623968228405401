"""Every argument of the public factories, whatever is given: no error of Python's own from within."""

import enum
import inspect
import math
import numbers
from decimal import Decimal
from fractions import Fraction

import grpc
import grpc.aio
import pytest

import trimtab
import trimtab.aio
import trimtab.aiohttp
import trimtab.httpx
import trimtab.httpx2
from trimtab.client import native_arguments
from trimtab.client.httpx_core import Core
from trimtab.errors import ConfigError

CHANNEL = {"target": "orders.shop:1", "endpoints": ["127.0.0.1:1"]}
NEEDED = {
    trimtab.insecure_channel: CHANNEL,
    trimtab.secure_channel: {**CHANNEL, "credentials": grpc.ssl_channel_credentials()},
    trimtab.aio.insecure_channel: CHANNEL,
    trimtab.aio.secure_channel: {**CHANNEL, "credentials": grpc.ssl_channel_credentials()},
    trimtab.aiohttp.Middleware: {},
    trimtab.httpx.AsyncTransport: {"verify": False},
    trimtab.httpx.Transport: {"verify": False},
    trimtab.httpx2.AsyncTransport: {"verify": False},
    trimtab.httpx2.Transport: {"verify": False},
    trimtab.Retry: {},
    trimtab.Connections: {},
    trimtab.LastGood: {"directory": "lists"},
    trimtab.tls_credentials: {},
    trimtab.spiffe_context: {"ca": "ca.pem", "servers": ["spiffe://example.org/a"]},
    trimtab.request_key: {},
    trimtab.request_labels: {},
}
EXCLUDED = {"bootstrap": "endpoints", "fallback": "endpoints"}


class Word(enum.StrEnum):
    TEXT = "text"


class Huge(enum.IntEnum):
    ONE = 2**31


class Sought(int):
    """A number of another type, which a range finds by comparing each of its own."""

    __hash__ = int.__hash__

    def __eq__(self, other):
        raise AssertionError(f"compared with {other}")


class Count:
    """A whole number of another library, as NumPy's are: no ``int``, and gRPC takes it for a pointer."""

    def __init__(self, value):
        self._value = value

    def __index__(self):
        return self._value

    __int__ = __index__


numbers.Integral.register(Count)


class Nonsense:
    def __repr__(self):
        return "<nonsense>"


def arguments(factory):
    made = Core.__init__ if hasattr(factory, "_inner") else factory
    found = inspect.signature(made).parameters.values()
    return [p.name for p in found if p.name != "self" and p.kind is not p.VAR_KEYWORD]


def call(factory, argument, value):
    given = {**NEEDED[factory], argument: value}
    if factory in CHANNELS:
        given.pop(EXCLUDED.get(argument), None)
        if argument == "fallback":
            server = {"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}
            given["bootstrap"] = {"xds_servers": [server]}
    made = factory(**given)
    if hasattr(made, "__enter__"):
        with made:
            pass


CHANNELS = [factory for factory, needed in NEEDED.items() if "target" in needed]
EVERY = [(factory, argument) for factory in NEEDED for argument in arguments(factory)]


@pytest.mark.parametrize(
    ("factory", "argument"), EVERY, ids=[f"{f.__module__}.{f.__name__}-{a}" for f, a in EVERY]
)
async def test_a_value_that_never_fits_is_refused_with_the_argument_s_name(factory, argument):
    for wrong in (Nonsense(), [Nonsense()], {Nonsense(): [Nonsense()]}):
        if argument == "interceptors" and not isinstance(wrong, Nonsense):
            continue  # gRPC's own words: that one must be a UnaryUnaryClientInterceptor or ...
        with pytest.raises(ConfigError, match=argument) as caught:
            call(factory, argument, wrong)
        assert "<nonsense>" in str(caught.value)


@pytest.mark.parametrize("factory", [trimtab.secure_channel, trimtab.aio.secure_channel])
async def test_a_secure_channel_without_credentials_is_refused_and_not_insecure(factory):
    with pytest.raises(ConfigError, match="credentials=None"):
        factory("orders.shop:1", None, endpoints=["127.0.0.1:1"])


@pytest.mark.parametrize(
    "value",
    [Sought(1), grpc.Compression.Gzip, True, -(2**31), 2**31 - 1, "text", b"bytes", Word("text")],
    ids=repr,
)
async def test_an_option_of_any_type_that_grpc_takes_is_taken(value):
    option = ("trimtab.test", value)
    call(trimtab.insecure_channel, "options", (each for each in [option]))
    call(trimtab.aio.insecure_channel, "options", [option])


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, Huge.ONE])
def test_an_option_of_more_than_32_bits_is_refused(value):
    with pytest.raises(ConfigError, match="32 bits"):
        call(trimtab.insecure_channel, "options", [("trimtab.test", value)])


NUMBERS = [
    (trimtab.Retry, name)
    for name in ("backoff_s", "most_backoff_s", "multiplier", "attempt_timeout_s", "hedge_after_s")
]
NUMBERS += [(trimtab.Connections, "max_age_s"), (trimtab.LastGood, "max_age_s")]


@pytest.mark.parametrize(("factory", "argument"), NUMBERS)
def test_a_number_of_any_library_is_taken_and_kept_as_python_s_own(factory, argument):
    room = {"most_backoff_s": 2} if argument == "backoff_s" else {}
    made = factory(**{**NEEDED[factory], **room, argument: Fraction(3, 2)})
    assert type(getattr(made, argument)) is float
    assert getattr(made, argument) == 1.5


def test_a_whole_number_of_any_library_is_taken_and_kept_as_python_s_own():
    retry = trimtab.Retry(attempts=Count(4), on=[Count(14)])
    connections = trimtab.Connections(streams=Count(4), most=Count(2))
    found = [retry.attempts, *retry.on, connections.streams, connections.most]
    assert found == [4, 14, 4, 2]
    assert {type(each) for each in found} == {int}
    with trimtab.insecure_channel(**CHANNEL, options=[("trimtab.test", Count(4))]):
        pass
    (option,) = native_arguments.options("orders", [("trimtab.test", Count(4))])
    assert type(option[1]) is int


@pytest.mark.parametrize("value", [4.0, 4.5, True, "4", None, Fraction(4)], ids=repr)
def test_what_is_no_whole_number_is_refused_where_one_is_meant(value):
    with pytest.raises(ConfigError, match="attempts="):
        trimtab.Retry(attempts=value)
    with pytest.raises(ConfigError, match="most="):
        trimtab.Connections(most=value)


@pytest.mark.parametrize("value", [4.0, 4.5, Fraction(4), Decimal(4)], ids=repr)
def test_an_option_that_is_a_number_and_not_whole_is_refused(value):
    # gRPC's core would take it for a pointer, and what was wanted would not happen.
    with pytest.raises(ConfigError, match="whole number of 32 bits"):
        call(trimtab.insecure_channel, "options", [("grpc.max_receive_message_length", value)])


@pytest.mark.parametrize("value", [10**400, math.inf, math.nan, True, 1j, Decimal(1)], ids=repr)
def test_what_is_no_number_that_a_timer_could_wait_for_is_refused(value):
    for name in ("backoff_s", "most_backoff_s", "multiplier", "attempt_timeout_s", "hedge_after_s"):
        with pytest.raises(ConfigError, match=f"{name}="):
            trimtab.Retry(**{name: value})
    with pytest.raises(ConfigError, match="max_age_s="):
        trimtab.Connections(max_age_s=value)
