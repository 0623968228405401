"""What httpx and httpx2 can and aiohttp can't: HTTP/2, and URLs of scheme xds."""

import _weakrefset
import asyncio
import gc
from types import SimpleNamespace

import httpcore
import httpx
import httpx2
import pytest

import trimtab
import trimtab.httpx
import trimtab.httpx2
from harness.stepping import at_each_line
from harness.waiting import Deadline, pause
from http_doors import Httpx2Async, Httpx2Sync, HttpxAsync, HttpxSync
from trimtab.balancer import Node
from trimtab.client import httpx_pools
from trimtab.client.http2_turns import take_turns
from trimtab.client.http_pool_slots import free_slots
from trimtab.client.httpx_pools import Pools
from trimtab.errors import ConfigError
from trimtab.model import Endpoint
from trimtab.testing import ControlPlane

SOME = pytest.mark.parametrize(
    "kind", [HttpxAsync, HttpxSync, Httpx2Async, Httpx2Sync], ids=lambda kind: kind.__name__
)


@SOME
async def test_http_2_without_tls(kind, servers):
    opened = servers.open("a", "b")
    client = kind(
        endpoints={"orders.shop:80": [s.target for s in opened]},
        policy="round_robin",
        http1=False,
        http2=True,
    )
    answers = [await client.send("GET", "http://orders.shop/") for _ in range(4)]
    assert {a.seen["version"] for a in answers} == {"2"}
    assert sorted(a.seen["server"] for a in answers) == ["a", "a", "b", "b"]
    await client.close()


@pytest.mark.parametrize("kind", [HttpxAsync, Httpx2Async], ids=lambda kind: kind.__name__)
async def test_a_response_that_is_dropped_unread_is_in_flight_until_the_next_request(kind, servers):
    a = servers.open("a")
    client = kind(endpoints={"orders.shop:80": [a.target]})
    response = await client.begin("http://orders.shop/parts")
    (cluster,) = client.transport._clusters
    assert cluster.balancer.in_flight == 1
    del response
    gc.collect()
    await client.send("GET", "http://orders.shop/")
    assert cluster.balancer.in_flight == 0
    await client.close()


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_a_blocking_response_that_is_dropped_unread_is_in_flight_until_the_next_request(
    library, servers
):
    transport = getattr(trimtab, library.__name__).Transport(
        endpoints={"orders.shop:80": [servers.open("a").target]}
    )
    with library.Client(transport=transport) as client:
        response = client.send(client.build_request("GET", "http://orders.shop/parts"), stream=True)
        (cluster,) = transport._clusters
        assert cluster.balancer.in_flight == 1
        del response
        gc.collect()
        client.get("http://orders.shop/")
        assert cluster.balancer.in_flight == 0


@SOME
async def test_xds_urls_always_name_a_service(kind, servers):
    a = servers.open("a")
    client = kind(endpoints={"orders.shop": [a.target]})
    answer = await client.send("GET", "xds://orders.shop/who")
    assert answer.seen["server"] == "a"
    await client.close()


@SOME
async def test_with_the_kill_switch_an_xds_url_is_refused_with_what_to_do(kind, monkeypatch):
    monkeypatch.setenv("TRIMTAB_DISABLE", "1")
    client = kind(hosts=["*.shop"])
    with pytest.raises(ConfigError, match=r"xds://orders\.shop:80: TRIMTAB_DISABLE .*http://"):
        await client.send("GET", "xds://orders.shop:80/")
    await client.close()


@pytest.mark.parametrize("module", [trimtab.httpx, trimtab.httpx2], ids=["httpx", "httpx2"])
def test_a_transport_closes_without_ever_being_used(module):
    with module.Transport(hosts=["*.shop"]):
        pass


def breaking(kind):
    """The same kind of client, of whose transports each raises when it is closed, and notes it."""
    closed = []
    is_async = "Async" in kind.__name__
    name = "AsyncHTTPTransport" if is_async else "HTTPTransport"
    plain = getattr(kind.library, name)
    face = getattr(kind.transports, "AsyncTransport" if is_async else "Transport")

    class Inner(plain):
        def close(self):
            closed.append(self)
            super().close()
            raise OSError("closing is broken")

        async def aclose(self):
            closed.append(self)
            await super().aclose()
            raise OSError("closing is broken")

    class Face(face):
        _inner = Inner

    class Transports:
        AsyncTransport = Transport = Face

    class Client(kind):
        transports = Transports

    return Client, closed


async def left_by_all_but_one(client, plane, opened):
    """Ask all, and let all but the last leave."""
    for _ in opened:
        await client.send("GET", "http://orders.shop:8080/")
    (cluster,) = client.transport._clusters
    plane.set("orders.shop:8080", [opened[-1].target])
    deadline = Deadline(10)
    while len(cluster.balancer.nodes) > 1:
        assert not deadline.passed
        await asyncio.to_thread(pause)


@SOME
async def test_a_leaver_that_can_t_be_closed_fails_no_request_and_keeps_no_other_open(
    kind, servers
):
    client_of, closed = breaking(kind)
    opened = servers.open("a", "b", "c")
    with ControlPlane() as plane:
        plane.set("orders.shop:8080", [s.target for s in opened])
        client = client_of(hosts=["*.shop"], bootstrap=plane.bootstrap(), policy="round_robin")
        await left_by_all_but_one(client, plane, opened)
        answer = await client.send("GET", "http://orders.shop:8080/")
        assert answer.seen["server"] == "c"
        assert len(set(closed)) == 2
        with pytest.raises(OSError, match="closing is broken"):
            await client.close()
        assert len(closed) == len(set(closed)) == 4  # each once; the fourth is for other hosts


@SOME
async def test_a_leaver_is_closed_when_its_last_response_is(kind, servers):
    client_of, closed = breaking(kind)
    opened = servers.open("a", "b")
    with ControlPlane() as plane:
        plane.set("orders.shop:8080", [s.target for s in opened])
        client = client_of(hosts=["*.shop"], bootstrap=plane.bootstrap(), policy="round_robin")
        open_ones = [await client.begin("http://orders.shop:8080/parts") for _ in opened]
        await left_by_all_but_one(client, plane, opened)
        await client.send("GET", "http://orders.shop:8080/")
        assert not closed
        for server in opened:
            server.let_go.set()
        for response in open_ones:
            await response.aclose()
        await client.send("GET", "http://orders.shop:8080/")
        assert len(closed) == 1
        with pytest.raises(OSError, match="closing is broken"):
            await client.close()


@pytest.mark.parametrize(
    ("library", "module"),
    [(httpx, trimtab.httpx), (httpx2, trimtab.httpx2)],
    ids=["httpx", "httpx2"],
)
async def test_a_request_that_is_cancelled_as_its_connection_is_made_costs_the_pool_no_place(
    library, module, servers
):
    async def cancel(event, _info):
        if event == "connection.connect_tcp.complete":
            asyncio.current_task().cancel()

    transport = module.AsyncTransport(
        endpoints={"orders.shop:80": [servers.open("a").target]},
        limits=library.Limits(max_connections=1),
    )
    patience = library.Timeout(5, pool=5)
    async with library.AsyncClient(transport=transport, timeout=patience) as client:
        for _ in range(3):
            given_up = asyncio.create_task(
                client.get("http://orders.shop/", extensions={"trace": cancel})
            )
            with pytest.raises(asyncio.CancelledError):
                await given_up
        answer = await client.get("http://orders.shop/")
        assert answer.status_code == 200


class Left:
    """A connection that was given to a request and never begun."""

    def __init__(self, problem=None):
        self.problem, self.closed = problem, False

    def is_idle(self):
        return False

    is_closed = is_available = is_idle

    async def aclose(self):
        self.closed = True
        if self.problem:
            raise self.problem


async def test_a_connection_that_fails_to_close_neither_ends_the_request_nor_keeps_the_others():
    left = [Left(OSError("broken")), Left()]
    pool = SimpleNamespace(_connections=[*left], _requests=[])
    await free_slots(SimpleNamespace(_pool=pool))
    assert not pool._connections
    assert all(connection.closed for connection in left)


@pytest.mark.parametrize(
    ("library", "module"),
    [(httpx, trimtab.httpx), (httpx2, trimtab.httpx2)],
    ids=["httpx", "httpx2"],
)
async def test_when_an_attempt_s_time_is_up_its_pick_ends_as_a_timeout_before_anything_is_closed(
    library, module
):
    closing = asyncio.Event()

    class Unclosable(Left):
        async def aclose(self):
            closing.set()
            await asyncio.Event().wait()

    class Inner(library.AsyncHTTPTransport):
        def __init__(self, **options):
            super().__init__(**options)
            self._pool = SimpleNamespace(_connections=[Unclosable()], _requests=[])

        async def handle_async_request(self, _request):
            await asyncio.Event().wait()

        async def aclose(self):
            pass

    class Face(module.AsyncTransport):
        _inner = Inner

    transport = Face(
        endpoints={"orders.shop:80": ["10.0.0.1:80"]},
        retry=trimtab.Retry(attempts=1, attempt_timeout_s=0.01),
    )
    async with library.AsyncClient(transport=transport) as client:
        request = asyncio.create_task(client.get("http://orders.shop/"))
        async with asyncio.timeout(10):
            await closing.wait()
        (cluster,) = transport._clusters
        (node,) = cluster.balancer.nodes.values()
        assert (node.in_flight, node.errors) == (0, 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request


BOTH = pytest.mark.parametrize(
    ("library", "other"),
    [(httpx, trimtab.httpx2), (httpx2, trimtab.httpx)],
    ids=["httpx", "httpx2"],
)
URLS = pytest.mark.parametrize("url", ["http://orders.shop/", "http://127.0.0.1:1/"])


@BOTH
@URLS
async def test_in_a_client_of_the_other_library_an_error_names_the_class_to_use(
    library, other, url
):
    endpoints = {"orders.shop:80": ["127.0.0.1:1"]}
    wanted = rf"{other.__name__}\.%s in a client of {library.__name__}: .* trimtab\.{library.__name__}\.%s$"
    async with library.AsyncClient(transport=other.AsyncTransport(endpoints=endpoints)) as client:
        with pytest.raises(ConfigError, match=wanted % (("AsyncTransport",) * 2)):
            await client.get(url)
    with (
        library.Client(transport=other.Transport(endpoints=endpoints)) as client,
        pytest.raises(ConfigError, match=wanted % (("Transport",) * 2)),
    ):
        client.get(url)


@pytest.mark.parametrize(
    ("library", "module"),
    [(httpx, trimtab.httpx), (httpx2, trimtab.httpx2)],
    ids=["httpx", "httpx2"],
)
async def test_in_a_client_of_the_other_kind_an_error_names_the_class_to_use(library, module):
    in_threads = library.Client(transport=module.AsyncTransport())
    words = rf"AsyncTransport in {library.__name__}\.Client: give it {module.__name__}\.Transport$"
    with pytest.raises(ConfigError, match=words):
        in_threads.get("http://orders.shop/")
    with pytest.raises(ConfigError, match=words), library.Client(transport=module.AsyncTransport()):
        pass
    on_loop = library.AsyncClient(transport=module.Transport())
    words = (
        rf"Transport in {library.__name__}\.AsyncClient: give it {module.__name__}\.AsyncTransport$"
    )
    with pytest.raises(ConfigError, match=words):
        await on_loop.get("http://orders.shop/")
    with pytest.raises(ConfigError, match=words):
        async with library.AsyncClient(transport=module.Transport()):
            pass


@pytest.mark.parametrize(
    ("library", "module"),
    [(httpx, trimtab.httpx), (httpx2, trimtab.httpx2)],
    ids=["httpx", "httpx2"],
)
@pytest.mark.parametrize("pattern", ["http://orders.shop:8080", "all://*.shop"])
def test_a_transport_that_is_mounted_leaves_other_urls_to_proxies_of_the_environment(
    pattern, library, module, servers, monkeypatch
):
    a, proxy = servers.open("a", "proxy")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://{proxy.target}")
    balanced = module.Transport(endpoints={"orders.shop:8080": [a.target]})
    with library.Client(mounts={pattern: balanced}) as client:
        assert client.get("http://orders.shop:8080/").json()["server"] == "a"
        assert client.get("http://elsewhere.test/").json()["server"] == "proxy"


@pytest.mark.parametrize(
    ("library", "module"),
    [(httpx, trimtab.httpx), (httpx2, trimtab.httpx2)],
    ids=["httpx", "httpx2"],
)
def test_a_transport_s_proxy_is_for_other_urls_and_endpoints_are_asked_past_it(
    library, module, servers
):
    a, proxy = servers.open("a", "proxy")
    transport = module.Transport(
        endpoints={"orders.shop:8080": [a.target]}, proxy=f"http://{proxy.target}"
    )
    with library.Client(transport=transport) as client:
        assert client.get("http://orders.shop:8080/").json()["server"] == "a"
        assert client.get("http://elsewhere.test/").json()["server"] == "proxy"


async def test_places_that_two_free_at_once_are_freed_once_and_nobody_s_error(servers):
    async def cancel(event, _info):
        if event == "connection.connect_tcp.complete":
            asyncio.current_task().cancel()

    url = f"http://{servers.open('a').target}/"
    async with httpx.AsyncHTTPTransport() as pool:
        for _ in range(3):
            request = httpx.Request("GET", url, extensions={"trace": cancel, "timeout": {}})
            given_up = asyncio.create_task(pool.handle_async_request(request))
            with pytest.raises(asyncio.CancelledError):
                await given_up
        assert len(pool._pool.connections) == 3
        await asyncio.gather(free_slots(pool), free_slots(pool))
        assert pool._pool.connections == []


def test_two_connections_that_a_server_leaves_at_once_make_one_new_pool():
    lefts, made = [], []
    node = Node(Endpoint("10.0.0.1", 80))

    def meanwhile():  # another thread hears of the other connection
        made.append(httpx.HTTPTransport(http2=True))
        if len(made) == 2:
            lefts[0]()
        return made[-1]

    def backend(plain, _late, left):
        lefts.append(left)
        return plain

    pools = Pools(meanwhile, backend, httpcore.ReadTimeout, take_turns)
    node.transport = pools(node)
    lefts[0]()
    assert len(made) == 2
    assert node.transport is made[1]
    assert pools.leaving == [made[0]]
    for pool in made:
        pool.close()


def test_pools_that_other_threads_leave_while_all_are_listed_disturb_nobody():
    lefts = []

    def backend(plain, _late, left):
        lefts.append(left)
        return plain

    pools = Pools(
        lambda: httpx.HTTPTransport(http2=True), backend, httpcore.ReadTimeout, take_turns
    )
    nodes = [Node(Endpoint(f"10.0.0.{n}", 80)) for n in range(40)]
    made = []
    for node in nodes:
        node.transport = pools(node)
        made.append(node.transport)
    for left in lefts[:10]:
        left()
    to_leave = lefts[10:40]

    def leave_another():
        to_leave.pop()()

    with at_each_line(leave_another, _weakrefset, httpx_pools) as interrupted:
        listed = pools.leaving
    assert interrupted
    assert set(made[:10]) <= set(listed)
    assert len(pools.leaving) == 10 + len(interrupted)
    for pool in [*made, *(node.transport for node in nodes)]:
        pool.close()
