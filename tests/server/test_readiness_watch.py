"""Who watches the health of a server with threads, and who still gets one of them."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

from trimtab.server import LoadReports, Readiness

NOT_SERVING, SERVING = b"\x08\x02", b"\x08\x01"
THREADS, CLIENTS = 4, 12
WATCHED = '{"healthCheckConfig": {"serviceName": ""}, "loadBalancingConfig": [{"round_robin": {}}]}'
OPTIONS = [("grpc.service_config", WATCHED), ("grpc.use_local_subchannel_pool", 1)]


class Wrapping(grpc.ServerInterceptor):
    """As tracing libraries do it: each handler is wrapped, and knows nothing of callbacks."""

    def intercept_service(self, continuation, handler_call_details):
        handler = continuation(handler_call_details)
        if handler is None or not handler.response_streaming:
            return handler

        def wrapped(request, context):
            yield from handler.unary_stream(request, context)

        return grpc.unary_stream_rpc_method_handler(wrapped)


@pytest.fixture
def serve():
    """Starts a server of four threads and opens channels to it, each with a connection of its own."""
    with ExitStack() as ends:

        def start(readiness, *interceptors, **how):
            server = grpc.server(ThreadPoolExecutor(THREADS), interceptors=interceptors)
            echo = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
            handlers = grpc.method_handlers_generic_handler("Orders", {"Get": echo})
            server.add_generic_rpc_handlers((handlers,))
            readiness.add_to(server, **how)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            ends.callback(lambda: server.stop(None).wait(10))

            def connect(options=OPTIONS[1:]):
                return ends.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options))

            return connect

        yield start


def ask(channel, method):
    return channel.unary_unary(method)(b"", timeout=10)


def watch(channel):
    return channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30)


def ready():
    readiness = Readiness()
    readiness.ready = True
    return readiness


@pytest.mark.parametrize("interceptors", [[], [LoadReports()], [Wrapping()]])
def test_clients_that_watch_health_hold_no_thread_of_the_server(serve, interceptors):
    connect = serve(ready(), *interceptors)
    clients = [connect(OPTIONS) for _ in range(CLIENTS)]
    for _ in range(2):  # when the last one is connected, all of them watch
        for client in clients:
            assert ask(client, "/Orders/Get") == b""
    assert ask(connect(), "/grpc.health.v1.Health/Check") == SERVING


def test_all_watchers_hear_of_each_change_and_more_of_them_than_threads(serve):
    readiness = Readiness()
    connect = serve(readiness)
    watches = [watch(connect()) for _ in range(CLIENTS)]
    assert [next(one) for one in watches] == [NOT_SERVING] * CLIENTS
    readiness.ready = True
    assert [next(one) for one in watches] == [SERVING] * CLIENTS
    for one in watches[1:]:
        one.cancel()
    readiness.end()
    assert next(watches[0]) == NOT_SERVING


def test_where_an_interceptor_wraps_the_handler_watches_hold_as_many_threads_as_they_may(serve):
    readiness = ready()
    connect = serve(readiness, Wrapping(), watch_threads=2)
    watches = [watch(connect()) for _ in range(2)]
    assert [next(one) for one in watches] == [SERVING] * 2
    for _ in range(CLIENTS):
        with pytest.raises(grpc.RpcError) as refused:
            next(watch(connect()))
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    readiness.end()
    assert [next(one) for one in watches] == [NOT_SERVING] * 2
    assert ask(connect(), "/grpc.health.v1.Health/Check") == NOT_SERVING


def test_a_watch_that_ends_leaves_its_place_to_another(serve):
    connect = serve(ready(), Wrapping(), watch_threads=1)
    first = watch(connect())
    assert next(first) == SERVING
    first.cancel()
    statuses = []
    while SERVING not in statuses:  # gRPC tells the server of the end in its own time
        try:
            statuses.append(next(watch(connect())))
        except grpc.RpcError as refused:
            statuses.append(refused.code())
        assert len(statuses) < 1000
