"""Servers that answer with what is no answer: each call ends with a status, and the others are used."""

from itertools import cycle

import grpc
import pytest
from h2.errors import ErrorCodes

from doors import loop, recording, threads
from doors.scripted import message
from harness.waiting import eventually
from trimtab.attempt import outcome_of_grpc
from trimtab.policies import Outcome

DOORS = {**threads.DOORS, **loop.DOORS}
CALLS = 6
Code = grpc.StatusCode

# See test_doors.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

# gRPC over HTTP/2, "Errors", and what gRPC's core makes of those that are not listed there.
RESETS = dict.fromkeys(ErrorCodes, Code.INTERNAL) | {
    ErrorCodes.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCodes.CANCEL: Code.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}


def half_a_message(exchange):
    exchange.begin()
    exchange.h2.send_data(exchange.stream, message(b"abc", length=100))
    exchange.end([("grpc-status", "0")])


def no_message(exchange):
    exchange.begin()
    exchange.end([("grpc-status", "0")])


def no_trailers(exchange):
    exchange.begin()
    exchange.h2.send_data(exchange.stream, message(b""), end_stream=True)


def no_number_for_a_status(exchange):
    exchange.begin()
    exchange.end([("grpc-status", "banana")])


def an_unknown_status(exchange):
    exchange.begin()
    exchange.end([("grpc-status", "99")])


def a_web_page(exchange):
    exchange.begin([(":status", "200"), ("content-type", "text/html")])
    exchange.h2.send_data(exchange.stream, b"<html>", end_stream=True)


def a_proxys_503(exchange):
    exchange.begin([(":status", "503"), ("content-type", "text/plain")])
    exchange.h2.send_data(exchange.stream, b"no healthy upstream", end_stream=True)


def no_protobuf(exchange):
    exchange.answer(b"\xff" * 8)


def an_unknown_compression(exchange):
    exchange.begin()
    exchange.h2.send_data(exchange.stream, message(b"abc", flag=1))
    exchange.end([("grpc-status", "0")])


def four_gigabytes_to_come(exchange):
    exchange.begin()
    exchange.h2.send_data(exchange.stream, message(b"abc", length=2**32 - 1))
    exchange.end([("grpc-status", "0")])


def no_http(exchange):
    exchange.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)


def half_a_frame_and_the_end(exchange):
    exchange.raw(b"\x00\x40\x00\x00\x00")
    exchange.hang_up()


FAILED, FULL = Outcome.FAILURE, Outcome.OVERLOADED
DAMAGES = {
    no_trailers: (Code.UNKNOWN, FAILED),
    no_number_for_a_status: (Code.INTERNAL, FAILED),
    an_unknown_status: (Code.UNKNOWN, FAILED),
    a_web_page: (Code.UNKNOWN, FAILED),
    a_proxys_503: (Code.UNAVAILABLE, FAILED),
    an_unknown_compression: (Code.INTERNAL, FAILED),
    four_gigabytes_to_come: (Code.RESOURCE_EXHAUSTED, FULL),
    no_http: (Code.INTERNAL, FAILED),
    half_a_frame_and_the_end: (Code.UNAVAILABLE, FAILED),
}
# Where gRPC has removed the stream before it says what was wrong with the connection.
ALSO = {no_http: Code.UNKNOWN}


@pytest.fixture(params=DOORS)
def door(request, echo):
    made = DOORS[request.param](echo)
    yield made
    made.close()


def called(door, scripted, servers, echo, respond):
    """What calls to this server brought, and how attempts ended there; a good one has the others."""
    bad, good = scripted(respond), servers.open("good")
    with recording.recorded() as ends:
        channel = door.open([bad.target, good.target], policy=recording.NAME)
        eventually(
            lambda: sum(node.connected for node in channel.balancer.nodes.values()) == 2,
            within=15,
            what="both are connected",
        )
        brought = []
        # One that hangs up comes back in between, and each time either may be the first of a new round.
        while len(brought) < CALLS or brought.count("good") < CALLS // 2:
            brought.append(brings(channel, echo[0].Request(text="x")))
            assert len(brought) < 20 * CALLS, brought
        eventually(lambda: channel.balancer.in_flight == 0, within=10, what="nothing in flight")
    assert good.received == brought.count("good")
    there = {outcome for at, outcome in ends if at == bad.target}
    return {each for each in brought if each != "good"}, there


def brings(channel, request):
    """The name of who answered, the code of an error, or None for gRPC's answer that is none."""
    try:
        reply = channel.say(request, timeout=15)
    except grpc.RpcError as error:
        return error.code()
    return None if reply is None else reply.server


@pytest.mark.parametrize("code", RESETS, ids=lambda code: code.name)
def test_a_reset_of_each_code_is_the_status_that_grpc_says_it_is(
    door, scripted, servers, echo, code
):
    begin = cycle([False, True])

    def reset(exchange):
        if next(begin):
            exchange.begin()
        exchange.reset(code)

    brought, ends = called(door, scripted, servers, echo, reset)
    assert brought == {RESETS[code]}
    meant = outcome_of_grpc(RESETS[code].value[0])
    if code is ErrorCodes.CANCEL and (not isinstance(door, loop.LoopDoor) or door.drop_safe):
        meant = FAILED  # the caller has not
    assert ends == {meant}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_is_no_answer_ends_as_a_status_and_others_are_used(
    door, scripted, servers, echo, damage
):
    code, meant = DAMAGES[damage]
    brought, ends = called(door, scripted, servers, echo, damage)
    assert brought
    assert brought <= {code, ALSO.get(damage, code)}
    assert ends - {Outcome.CANCELLED} == {meant}  # cancelled: picks that were taken back


@pytest.mark.parametrize("damage", [half_a_message, no_message])
def test_an_ok_without_a_message_is_none_to_grpc(door, scripted, servers, echo, damage):
    brought, ends = called(door, scripted, servers, echo, damage)
    assert brought == {None}
    assert ends == {Outcome.SUCCESS}


def test_a_message_that_can_not_be_read_is_an_error_to_threads_and_none_to_asyncio(
    door, scripted, servers, echo
):
    brought, ends = called(door, scripted, servers, echo, no_protobuf)
    if isinstance(door, loop.LoopDoor):
        assert (brought, ends) == ({None}, {Outcome.SUCCESS})
    else:
        assert (brought, ends) == ({Code.INTERNAL}, {FAILED})
