"""Every argument of the public factories, whatever is given: no error of Python's own from within."""

import enum
import inspect

import grpc
import grpc.aio
import pytest

import trimtab
import trimtab.aio
import trimtab.aiohttp
import trimtab.httpx
import trimtab.httpx2
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
