"""What every HTTP door promises: httpx and httpx2, on a loop and in threads, and aiohttp."""

import asyncio
import contextlib
import gc
import ssl
import sys
import threading
from collections import Counter
from email.utils import formatdate

import pytest

import trimtab
from certificates import Authority
from harness.ports import free_port
from harness.waiting import Deadline, eventually, pause
from http_doors import DOORS, Aiohttp, HttpxSync
from trimtab.client.http_waiting import pick_blocking
from trimtab.client.last_good import LastGood
from trimtab.errors import ConfigError, NoEndpoints
from trimtab.load_codec import encode
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, PolicyConfig, Snapshot
from trimtab.testing import ControlPlane

URL = "http://orders.shop:8080"


def unused_target():
    """A port where nobody listens."""
    return f"127.0.0.1:{free_port()}"


def in_flight(client):
    return sum(
        node.in_flight
        for cluster in client.transport._clusters
        for node in cluster.balancer.nodes.values()
    )


def fixed(*targets):
    return {"orders.shop:8080": list(targets)}


async def until(look):
    deadline = Deadline(10)
    while not await look():
        assert not deadline.passed, look.__name__
        await asyncio.to_thread(pause)


async def test_each_request_picks_and_the_service_s_name_stays_everywhere(door, servers):
    opened = servers.open("a", "b", "c")
    client = door(endpoints=fixed(*(s.target for s in opened)), policy="round_robin")
    answers = [await client.send("GET", f"{URL}/who%2Fis/it?q=a%20b&q=c") for _ in range(9)]
    assert Counter(a.seen["server"] for a in answers) == {"a": 3, "b": 3, "c": 3}
    for answer in answers:
        assert answer.status == 200
        assert answer.seen["host"] == "orders.shop:8080"
        assert answer.seen["target"] == "/who%2Fis/it?q=a%20b&q=c"
        assert answer.url.startswith(f"{URL}/who%2Fis/it")
    assert in_flight(client) == 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_an_endpoint_with_an_ipv6_address_is_asked_like_any_other(
    door, servers, tmp_path, tls
):
    authority = Authority()
    certificate = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    for name, content in zip(("cert.pem", "key.pem"), authority.issue(), strict=True):
        (tmp_path / name).write_bytes(content)
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    a = servers.open("a", host="::1", certificate=certificate if tls else None)
    client = door(endpoints={"localhost:8080": [a.target]}, verify=trusting)
    url = f"{'https' if tls else 'http'}://localhost:8080/who%2Fis?q=1"
    answer = await client.send("GET", url)
    assert (answer.seen["server"], answer.seen["target"]) == ("a", "/who%2Fis?q=1")
    assert (answer.seen["host"], answer.url) == ("localhost:8080", url)


async def test_the_default_policy_reaches_every_endpoint(door, servers):
    opened = servers.open("a", "b", "c")
    client = door(endpoints=fixed(*(s.target for s in opened)))
    answers = [await client.send("GET", URL + "/") for _ in range(40)]
    assert {a.seen["server"] for a in answers} == {"a", "b", "c"}


async def test_the_control_plane_s_changes_are_followed(door, servers):
    a, b = servers.open("a", "b")
    with ControlPlane() as plane:
        plane.set("orders.shop:8080", [a.target])
        client = door(hosts=["*.shop"], bootstrap=plane.bootstrap(), policy="round_robin")
        assert (await client.send("GET", URL + "/")).seen["server"] == "a"
        plane.set("orders.shop:8080", [b.target])

        async def moved():
            return (await client.send("GET", URL + "/")).seen["server"] == "b"

        await until(moved)
        plane.set("orders.shop:8080", [])

        async def gone():
            try:
                await client.send("GET", URL + "/")
            except client.errors as error:
                return "orders.shop:8080" in str(error)
            return False

        await until(gone)


async def test_other_hosts_are_left_alone(door, servers):
    other = servers.open("other")
    client = door(hosts=["*.shop"], endpoints=fixed(unused_target()))
    answer = await client.send("GET", f"http://{other.target}/")
    assert answer.seen["server"] == "other"
    assert answer.seen["host"] == other.target


async def test_an_endpoint_that_nobody_answers_for_costs_no_request(door, servers):
    a, b = servers.open("a", "b")
    client = door(endpoints=fixed(unused_target(), a.target, b.target), policy="round_robin")
    answers = [await client.send("POST", URL + "/", content=b"once") for _ in range(12)]
    counts = Counter(a.seen["server"] for a in answers)
    assert set(counts) == {"a", "b"}
    assert max(counts.values()) <= 8
    assert {a.seen["body"] for a in answers} == {"once"}
    assert in_flight(client) == 0


async def test_when_nobody_answers_the_error_is_the_library_s_and_names_the_endpoint(door):
    target = unused_target()
    client = door(endpoints=fixed(target))
    with pytest.raises(client.errors) as refused:
        await client.send("GET", URL + "/")
    assert target.rpartition(":")[2] in str(refused.value)
    assert in_flight(client) == 0


async def test_a_server_that_stops_under_load_fails_nothing_that_may_be_repeated(door, servers):
    a, b = servers.open("a", "b")
    client = door(endpoints=fixed(a.target, b.target), policy="round_robin")
    for _ in range(4):
        await client.send("GET", URL + "/")
    await asyncio.to_thread(a.stop)
    answers = [await client.send("GET", URL + "/") for _ in range(10)]
    assert {x.seen["server"] for x in answers} == {"b"}


async def test_503_is_asked_elsewhere_once_and_only_of_safe_methods(door, servers):
    a, b = servers.open("a", "b")
    a.status["/"] = 503
    client = door(
        endpoints=fixed(a.target, b.target),
        policy=PolicyConfig.of("round_robin", judges=False),
    )
    assert {(await client.send("GET", URL + "/")).status for _ in range(6)} == {200}
    before = a.served["/"] + b.served["/"]
    statuses = Counter([(await client.send("POST", URL + "/")).status for _ in range(6)])
    assert statuses == {200: 3, 503: 3}
    assert a.served["/"] + b.served["/"] == before + 6


async def test_a_whole_outage_is_not_multiplied(door, servers):
    opened = servers.open("a", "b", "c")
    for server in opened:
        server.status["/"] = 503
    client = door(endpoints=fixed(*(s.target for s in opened)))
    for _ in range(100):
        assert (await client.send("GET", URL + "/")).status == 503
    # The floor of the budget is 10, and a fifth of 100 is 20.
    assert sum(s.served["/"] for s in opened) <= 130


@pytest.mark.parametrize("rest", ["30", formatdate(4e9, usegmt=True)])
async def test_retry_after_keeps_requests_away(door, servers, rest):
    a, b = servers.open("a", "b")
    a.status["/"] = 429
    a.headers["retry-after"] = rest
    client = door(endpoints=fixed(a.target, b.target))
    for _ in range(30):
        await client.send("GET", URL + "/")
    assert a.served["/"] <= 3


async def test_with_the_kill_switch_known_hosts_go_where_their_urls_say(door, servers, monkeypatch):
    named, steered = servers.open("named", "steered")
    monkeypatch.setenv("TRIMTAB_DISABLE", "1")
    client = door(endpoints={f"localhost:{named.port}": [steered.target]}, hosts=["*.shop"])
    monkeypatch.delenv("TRIMTAB_DISABLE")  # it counts when a transport is made
    answer = await client.send("GET", f"http://localhost:{named.port}/")
    assert answer.seen["server"] == "named"
    assert list(client.transport._clusters) == []
    with pytest.raises(client.errors) as lost:  # by DNS, which doesn't know it
        await client.send("GET", URL + "/")
    assert "received" not in str(lost.value)


async def test_without_the_control_plane_the_fallback_is_asked(
    door, servers, tmp_path, monkeypatch
):
    a = servers.open("a")
    monkeypatch.setenv("TRIMTAB_CONTROL_PLANE", unused_target())
    client = door(hosts=["*.shop"], fallback=fixed(a.target))
    assert (await client.send("GET", URL + "/")).seen["server"] == "a"
    with ControlPlane() as plane:
        plane.set("orders.shop:8080", [a.target])
        first = door(
            hosts=["*.shop"], bootstrap=plane.bootstrap(), fallback=LastGood(str(tmp_path))
        )
        await first.send("GET", URL + "/")

        async def kept():
            return any(tmp_path.glob("*.trimtab"))  # beside it one is written first

        await until(kept)
    second = door(hosts=["*.shop"], fallback=LastGood(str(tmp_path)))
    assert (await second.send("GET", URL + "/")).seen["server"] == "a"


@pytest.mark.parametrize("wrong", [["10.0.0.1:80"], {"*.shop": ["10.0.0.1:80"]}])
async def test_a_fallback_of_another_form_is_refused_at_once(door, wrong):
    with pytest.raises(ConfigError, match=r"fallback: .*orders\.shop:8080"):
        door(hosts=["*.shop"], fallback=wrong)


async def test_what_is_in_flight_counts_until_the_body_ends(door, servers):
    a = servers.open("a")
    client = door(endpoints=fixed(a.target))
    response = await client.begin(URL + "/parts")
    assert in_flight(client) == 1
    await response.aclose()
    assert in_flight(client) == 0


async def test_a_request_that_is_given_up_is_no_longer_in_flight(door, servers):
    a = servers.open("a")
    client = door(endpoints=fixed(a.target), timeout=0.3)
    with pytest.raises(client.errors):
        await client.send("GET", URL + "/hold")
    assert in_flight(client) == 0


async def test_load_reports_of_the_servers_reach_the_policy(door, servers):
    a, b = servers.open("a", "b")
    # Both say that they are as quick; a says that 50 others wait there, so it is hot.
    for server, waiting in ((a, 50), (b, 0)):
        server.headers["endpoint-load-metrics"] = encode(
            LoadReport(in_flight=waiting, latency=0.01)
        )
    client = door(endpoints=fixed(a.target, b.target), policy=PolicyConfig.of("token", explore=0.0))
    for _ in range(40):
        await client.send("GET", URL + "/")
    assert a.served["/"] < b.served["/"] / 2


async def test_keys_keep_to_one_endpoint(door, servers):
    opened = servers.open("a", "b", "c")
    client = door(
        endpoints=fixed(*(s.target for s in opened)),
        policy=PolicyConfig.of("ring_hash", hash_key="x-user"),
    )
    for user in ("ann", "bob", "cem", "dora"):
        answers = [await client.send("GET", URL + "/", headers={"x-user": user}) for _ in range(5)]
        assert len({a.seen["server"] for a in answers}) == 1


async def test_a_function_says_the_key_of_a_request(door, servers):
    opened = servers.open("a", "b", "c")

    def user_of(method, headers, request):
        assert (method, request.method) == ("GET", "GET")
        return dict(headers).get("x-user") and str(request.url).rpartition("/")[2]

    client = door(
        endpoints=fixed(*(s.target for s in opened)), policy="ring_hash", hash_key=user_of
    )

    async def served(user, times, **headers):
        answers = [await client.send("GET", f"{URL}/{user}", headers=headers) for _ in range(times)]
        return {a.seen["server"] for a in answers}

    # With 100 points each, shares of the ring are 1/3 with a deviation of 0.03, so at least a fifth. One
    # is left out by all keys once in 1 / (3 * 0.8**60) = 217,000 runs.
    keyed = [await served(f"user-{i}", 2, **{"x-user": "yes"}) for i in range(60)]
    assert all(len(servers) == 1 for servers in keyed)
    assert len(set.union(*keyed)) == 3
    assert len(await served("user-0", 60)) > 1  # by chance, of which the same holds


async def test_labels_of_a_request_choose_the_endpoints(door, servers):
    a, b = servers.open("a", "b")
    endpoints = [
        Endpoint("127.0.0.1", s.port, labels=frozenset({("shard", shard)}))
        for s, shard in ((a, "1"), (b, "2"))
    ]
    client = door(endpoints={"orders.shop:8080": endpoints})
    for server, shard in ((a, "1"), (b, "2")):
        with trimtab.request_labels({"shard": shard}):
            answers = [await client.send("GET", URL + "/") for _ in range(4)]
        assert {x.seen["server"] for x in answers} == {server.name}


async def test_redirects_are_followed_to_where_they_lead(door, servers):
    a, other = servers.open("a", "other")
    a.status["/"] = 307
    a.headers["location"] = f"http://{other.target}/there"
    client = door(endpoints=fixed(a.target), redirects=True)
    answer = await client.send("GET", URL + "/")
    assert (answer.seen["server"], answer.seen["host"]) == ("other", other.target)
    a.headers["location"] = "/here"  # relative: to the service, not to the endpoint
    answer = await client.send("GET", URL + "/")
    assert answer.seen["host"] == "orders.shop:8080"
    assert answer.url == URL + "/here"


async def test_tls_is_checked_against_the_service_s_name(door, servers, tmp_path):
    authority = Authority()
    chain, key = authority.issue()
    (tmp_path / "cert.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(key)
    certificate = (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    a = servers.open("a", certificate=certificate)
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    endpoints = {"localhost:8443": [a.target], "orders.shop:8443": [a.target]}
    client = door(endpoints=endpoints, verify=trusting)
    assert (await client.send("GET", "https://localhost:8443/")).seen["server"] == "a"
    with pytest.raises(client.errors, match=r"(?i)hostname mismatch|certificate"):
        await client.send("GET", "https://orders.shop:8443/")
    assert in_flight(client) == 0


async def test_nothing_is_known_in_time(door):
    with ControlPlane() as plane:
        client = door(hosts=["orders.shop"], bootstrap=plane.bootstrap(), timeout=1.0)
        with pytest.raises(client.errors) as refused:
            await client.send("GET", URL + "/")
        assert "orders.shop:8080" in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"policy": "no_such_policy"}, "no_such_policy"),
        ({"policy": 3}, "policy=3 is neither"),
        ({"policy": PolicyConfig.of("p2c", depth=2)}, "depth"),
        ({"locality": 3}, "locality=3 is neither"),
        ({"labels": {"shard": 7}}, "labels=.* is no mapping of texts"),
        ({"retry": 3}, "retry=3 is no"),
        ({"retries": {"POST": 3}}, r"retries\['POST'\]=3 is no"),
        ({"hash_key": 3}, "hash_key=3"),
        ({"bootstrap": "/there/is/none"}, "/there/is/none"),
        ({"bootstrap": {"xds_servers": []}}, "argument bootstrap"),
        ({"endpoints": {"orders.shop:8080": ["nowhere"]}}, "orders.shop:8080: .*'nowhere'"),
        ({"endpoints": ["10.0.0.1:80"]}, "endpoints: .* is no mapping"),
        ({"fallback": {"orders.shop:8080": ["nowhere"]}}, "fallback: .*'nowhere'"),
        ({"fallback": {"orders.shop:8080": 5}}, "fallback: 5 is no list"),
    ],
)
async def test_a_wrong_argument_is_refused_at_once(door, wrong, told):
    with pytest.raises(ConfigError, match=told):
        door(hosts=["*.shop"], **wrong)


async def test_a_list_that_can_be_read_once_serves_all_ports(door, servers):
    a = servers.open("a")
    client = door(endpoints={"orders.shop": iter([a.target])})
    for port in (80, 81):
        answer = await client.send("GET", f"http://orders.shop:{port}/")
        assert answer.seen["server"] == "a"


async def test_a_missing_bootstrap_of_the_environment_is_told_at_the_first_request(
    door, monkeypatch
):
    for name in ("GRPC_XDS_BOOTSTRAP", "GRPC_XDS_BOOTSTRAP_CONFIG", "TRIMTAB_CONTROL_PLANE"):
        monkeypatch.delenv(name, raising=False)
    client = door(hosts=["*.shop"])
    with pytest.raises(ConfigError, match="TRIMTAB_CONTROL_PLANE") as told:
        await client.send("GET", URL + "/")
    assert told.value.__context__ is None, "nothing that is not the caller's comes before it"


async def test_many_requests_at_once_leave_nothing_behind(door, servers):
    opened = servers.open("a", "b", "c")
    client = door(endpoints=fixed(*(s.target for s in opened)))
    answers = await asyncio.gather(*(client.send("GET", URL + "/") for _ in range(60)))
    counts = Counter(a.seen["server"] for a in answers)
    assert set(counts) == {"a", "b", "c"}
    assert in_flight(client) == 0


async def test_pods_that_left_leave_nothing_behind(door, servers):
    a, b = servers.open("a", "b")
    with ControlPlane() as plane:
        plane.set("orders.shop:8080", [a.target, b.target])
        client = door(hosts=["*.shop"], bootstrap=plane.bootstrap(), policy="round_robin")
        await client.send("GET", URL + "/")
        (cluster,) = client.transport._clusters
        (gone,) = (n for n in cluster.balancer.nodes.values() if n.endpoint.port == a.port)
        plane.set("orders.shop:8080", [b.target])

        async def left():
            await client.send("GET", URL + "/")
            return len(cluster.balancer.nodes) == 1

        await until(left)
        cluster.rest(gone)  # a request that was under way there breaks
        assert gone not in cluster._backoffs


async def test_a_body_counts_though_the_server_offers_another_protocol(door, servers):
    a = servers.open("a")
    a.headers["upgrade"] = "h2c"
    client = door(endpoints=fixed(a.target))
    response = await client.begin(URL + "/parts")
    assert in_flight(client) == 1
    await response.aclose()
    assert in_flight(client) == 0


def followed(plane):
    return [resource for client in plane.clients() for resource in client.resources]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # dropped connections are what it is about
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_client_that_was_dropped_unclosed_follows_nobody(servers):
    a = servers.open("a")
    with ControlPlane() as plane:
        plane.set("orders.shop:8080", [a.target])
        for kind in DOORS:
            client = kind(hosts=["*.shop"], bootstrap=plane.bootstrap())
            await client.send("GET", "http://orders.shop:8080/")
            # The answer may be there before the control plane has read what the client told it last.
            await asyncio.to_thread(
                eventually, lambda: followed(plane), within=30, what=f"{kind.__name__} follows"
            )
            if kind is Aiohttp:
                await client._get().close()  # whose connections are its own business
            del client
            await asyncio.to_thread(
                eventually,
                lambda: gc.collect() >= 0 and not followed(plane),
                within=30,
                what=f"{kind.__name__}: nobody follows",
            )


async def test_pods_that_came_and_went_do_not_add_up(door, servers):
    server = servers.open("a")
    client = door(endpoints=fixed(server.target))
    await client.send("GET", URL + "/")
    (cluster,) = client.transport._clusters
    for i in range(50):
        for traffic in (True, False):
            pod = Endpoint("127.0.0.1", server.port, uid=f"{i} {traffic}")
            cluster.updated(Snapshot("orders.shop:8080", (pod,)))
            if traffic:
                await client.send("GET", URL + "/")
    assert len(cluster.left) <= 2  # whose pools the next request closes
    await client.send("GET", URL + "/")
    assert not cluster.left


async def test_names_that_nobody_knows_do_not_add_up(door):
    with ControlPlane() as plane:
        client = door(hosts=["*.shop"], bootstrap=plane.bootstrap(), timeout=0.01)
        for i in range(100):
            with pytest.raises(client.errors):
                await client.send("GET", f"http://user{i}.shop:8080/")
        clusters = client.transport._clusters
        assert len(list(clusters)) <= 64
        assert len(clusters._found) <= 64


def test_names_that_nobody_knows_are_forgotten_while_other_threads_find_foreign_hosts():
    with ControlPlane() as plane:
        client = HttpxSync(hosts=["*.shop"], bootstrap=plane.bootstrap())
        clusters = client.transport._clusters
        over = threading.Event()

        def elsewhere():
            n = 0
            while not over.is_set():
                clusters.of("http", f"{n % 3000}.example", 80)
                n += 1
                if n % 3000 == 0:
                    for n_old in range(3000):
                        clusters._found.pop(("http", f"{n_old}.example", 80), None)

        often = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        other = threading.Thread(target=elsewhere)
        other.start()
        try:
            for n in range(400):
                found = clusters.of("http", f"user{n}.shop", 80)
                with contextlib.suppress(NoEndpoints):
                    pick_blocking(found, None, 0.0)
        finally:
            over.set()
            other.join()
            sys.setswitchinterval(often)
        assert len(list(clusters)) <= 64
        client.transport.close()


async def test_services_that_are_known_are_followed_however_many(servers, door):
    a = servers.open("a")
    with ControlPlane() as plane:
        client = door(hosts=["*.shop"], bootstrap=plane.bootstrap())
        for i in range(70):
            plane.set(f"s{i}.shop:8080", [a.target])
            await client.send("GET", f"http://s{i}.shop:8080/")
        assert len(list(client.transport._clusters)) == 70
