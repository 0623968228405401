"""Calls that nobody ends but the collector of garbage, which may come in the middle of another's accounting."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from harness.stepping import at_each_line, at_one_line_after_the_other
from harness.waiting import eventually
from trimtab.load_codec import decode
from trimtab.server import LoadReports, Readiness, ServerLoad, readiness_watch, server_load
from trimtab.server import readiness as readiness_module
from trimtab.server.readiness_watch import Watches


class Tied:
    """A generator that only the collector lets go of."""

    def __init__(self, generator):
        self.generator, self.itself = generator, self

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.generator)


class Tying(grpc.ServerInterceptor):
    """As an interceptor does that keeps each stream beside what it knows of it."""

    def intercept_service(self, continuation, handler_call_details):
        handler = continuation(handler_call_details)
        if not handler.response_streaming:
            return handler
        return grpc.unary_stream_rpc_method_handler(
            lambda request, context: Tied(handler.unary_stream(request, context))
        )


def count(_request, _context):
    while True:
        yield b"next"


@pytest.mark.processes
@pytest.mark.usefixtures("uncollected")
def test_a_stream_that_is_collected_while_the_load_is_worked_out_holds_up_nobody():
    load = ServerLoad(utilization=lambda: 0.0 * gc.collect())
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[Tying(), LoadReports(load)])
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(lambda request, _context: request),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_stream("/Test/Count")(b"", timeout=30)
        assert next(call) == b"next"
        call.cancel()
        say = channel.unary_unary("/Test/Say")

        def collected():
            assert say(b"", timeout=10) == b""  # the load is worked out anew ten times a second
            return load.in_flight == 0

        eventually(collected, within=20, what="the stream is counted as ended")
    server.stop(None).wait(10)


def test_calls_that_are_given_up_at_each_step_of_others_accounting_are_all_counted():
    load = ServerLoad(utilization=lambda: 0.5)
    given_up = [load.begin() for _ in range(1000)]
    held = load.begin()

    def give_up():
        load.give_up(given_up.pop())

    with at_each_line(give_up, server_load) as interrupted:
        said = load.end(load.begin(), 0.1)
        load.report()
        load.totals()
    assert {"begin", "end", "report", "totals", "_settle", "_sample"} <= set(interrupted)
    assert decode(said.text).in_flight > 1
    assert load.in_flight == 1 + len(given_up)
    while given_up:
        give_up()
    load.end(held, None)
    assert load.totals() == (1002, 0)


def test_watches_that_end_at_each_step_of_telling_them_hold_it_up_no_more():
    readiness, told, forgotten = Readiness(), [], []
    forgets = [readiness._listen(lambda number=number: told.append(number)) for number in range(40)]

    def forget():
        if forgets:
            forgets.pop()()
            forgotten.append(len(forgets))

    with at_each_line(forget, readiness_module) as interrupted:
        readiness.ready = True
    assert interrupted.count("ready") > 1
    assert forgotten
    assert set(range(len(forgets))) <= set(told)
    told.clear()
    readiness.end()
    assert told == list(range(len(forgets)))
    assert not readiness.ready


class Context:
    """As much of gRPC's as a watch that an interceptor wraps asks for."""

    def add_callback(self, _callback):
        return True


def test_a_wrapped_watch_that_is_collected_at_each_step_of_anothers_begin_gives_its_place_back():
    def run(interrupted):
        watches = Watches(lambda: b"", lambda _tell: lambda: None, 2)
        garbage = watches(b"", Context())
        assert next(garbage) == b""

        def begin():
            with interrupted(garbage.close):
                begun.append(watches(b"", Context()))
                next(begun[0])

        begun = []
        beginning = threading.Thread(target=begin, daemon=True)
        beginning.start()
        eventually(lambda: not beginning.is_alive(), within=20, what="it has begun")
        garbage.close()
        assert next(watches(b"", Context())) == b""

    assert at_one_line_after_the_other(run, readiness_watch, threading) > 5


@pytest.mark.parametrize("wrong", [-1, 1.5, "2"])
def test_a_wrong_number_of_threads_for_watches_is_refused(wrong):
    with pytest.raises(ValueError, match="watch_threads="):
        Readiness().add_to(grpc.server(ThreadPoolExecutor(1)), watch_threads=wrong)
