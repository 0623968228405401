"""What an API server answers when it does not answer well. Rows K of the fault matrix."""

import asyncio
import json

import pytest
from aiohttp import web

from fake_api import Access, View, viewing
from fake_api.view import FAST, until
from kube import endpoint_slice, service
from trimtab.discovery.kubernetes import metrics
from trimtab.discovery.kubernetes.credentials import TokenFile

BOTH = ["10.0.0.1", "10.0.0.2"]


def failures(view, reason):
    return view.counters.get(metrics.FAILURES, "fake", reason)


async def test_a_list_comes_in_pages_of_one_moment(api):
    api.put(*(endpoint_slice(f"n{n}", f"10.0.1.{n}") for n in range(1, 9)))
    async with viewing(api) as view:
        assert len(view.addresses()) == 10
    asked = [p for v, plural, p in api.requests if v == "list" and plural == "endpointslices"]
    assert len(asked) == 4
    assert all("resourceVersion" not in p for p in asked)
    assert ["continue" in p for p in asked] == [False, True, True, True]


async def test_pages_that_expire_are_begun_anew(api):
    api.put(*(endpoint_slice(f"n{n}", f"10.0.1.{n}") for n in range(1, 9)))

    async def expire(request):
        if "continue" not in request.query:
            api.fail("list", act=expire, plural="endpointslices")
            return api._list(request, "endpointslices")
        api.objects.version += 1
        api.objects.compact()
        return api._list(request, "endpointslices")

    api.fail("list", act=expire, plural="endpointslices")
    async with viewing(api) as view:
        assert len(view.addresses()) == 10


@pytest.mark.parametrize(("verb", "lists"), [("list", 2), ("watch", 1)])
async def test_k5_a_throttled_request_waits_as_long_as_it_is_asked_to(api, verb, lists):
    loop = asyncio.get_running_loop()
    moments = []

    async def throttle(_request):
        moments.append(loop.time())
        return web.Response(status=429, headers={"Retry-After": "0.1"})

    api.fail(verb, 2, plural="endpointslices", act=throttle)
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        assert loop.time() - moments[0] >= 0.2
        assert moments[1] - moments[0] >= 0.1
        assert failures(view, "throttled") == 2
        assert view.addresses() == BOTH
    assert api.count("list", "endpointslices") == lists + (verb == "list")


async def test_k5_throttled_lists_and_watches_by_turns_cost_one_list_each_and_no_endpoint(api):
    loop = asyncio.get_running_loop()
    lists, watches = [], []

    def throttling(moments):
        async def throttle(_request):
            moments.append(loop.time())
            return web.Response(status=429, headers={"Retry-After": "0.1"})

        return throttle

    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        begin = api.count("list", "endpointslices")
        for turn in range(4):
            api.fail("list", act=throttling(lists), plural="endpointslices")
            api.fail("watch", act=throttling(watches), plural="endpointslices")
            api.put(endpoint_slice("c", f"10.0.1.{turn + 1}"))
            api.objects.compact()
            api.cut_watches()  # the watch is throttled, then gone; so is its list, then good
            wanted = [*BOTH, f"10.0.1.{turn + 1}"]
            await until(lambda wanted=wanted: view.addresses() == wanted)
            await until(lambda: api.watches == 2)
            assert set(BOTH) <= set(view.addresses())
    told = [e.snapshot.endpoints for e in view.told if hasattr(e, "snapshot")]
    assert all({"10.0.0.1", "10.0.0.2"} <= {e.address for e in some} for some in told)
    assert (len(lists), len(watches)) == (4, 4)
    # Each list is asked for twice: once refused, and once more after the time that was asked for.
    assert api.count("list", "endpointslices") - begin == 8
    assert failures(view, "throttled") == 8


async def test_a_retry_after_that_is_a_date_or_nonsense_is_no_trap(api):
    for value in ("Mon, 23 Nov 2026 09:00:00 GMT", "soon", "nan", "-5", "1e300", "inf"):
        api.fail("list", headers={"Retry-After": value}, status=503)
    async with viewing(api) as view:
        assert view.addresses() == BOTH
        assert failures(view, "http_5xx") == 6


async def test_k6_while_the_server_is_away_what_is_known_stays_and_is_told_to_be_old(api):
    async with viewing(api) as view:
        told = len(view.told)
        await api.stop()
        await until(lambda: view.source.contact().failing_since is not None)
        await until(lambda: failures(view, "connection") > 5)
        assert view.addresses() == BOTH
        assert api.address in view.reason
        heard = view.source.contact().heard
        api.put(endpoint_slice("c", "10.0.0.3"))
        await api.start()
        await until(lambda: len(view.addresses()) == 3, "read on")
        await until(lambda: view.source.contact().failing_since is None, "well again")
        assert view.source.contact().heard > heard
        assert view.reason == ""
        assert len(view.told) == told + 1
    assert api.count("list") == 2


async def test_k7_a_server_that_is_away_at_the_start_is_waited_for(api):
    await api.stop()
    async with viewing(api, synced=False) as view:
        await until(lambda: failures(view, "connection") >= 4)
        assert view.told == []
        assert view.source.contact().heard is None
        await api.start()
        await until(lambda: view.synced)
        assert view.addresses() == BOTH


async def test_failures_wait_longer_and_longer(api):
    loop = asyncio.get_running_loop()
    moments = []

    async def fail(_request):
        moments.append(loop.time())
        return web.Response(status=500)

    api.fail("list", 12, plural="endpointslices", act=fail)
    begin = loop.time()
    async with viewing(api):
        pass
    assert len(moments) == 12  # no hot loop, and no end of trying
    assert loop.time() - begin < 12 * FAST.backoff_s[1] + 5


FORBIDDEN = {
    "kind": "Status",
    "code": 403,
    "reason": "Forbidden",
    "message": 'endpointslices.discovery.k8s.io is forbidden: User "x" cannot list resource',
}


async def test_k8_a_refusal_names_verb_resource_and_rule_and_ends_by_itself(api):
    body = json.dumps(FORBIDDEN).encode()
    api.fail("list", 1000, plural="endpointslices", status=403, body=body)
    async with viewing(api, synced=False) as view:
        await until(lambda: failures(view, "forbidden") >= 2)
        reason = view.reason
        for part in (
            "list endpointslices",
            'API group "discovery.k8s.io"',
            "in all namespaces",
            'User "x" cannot list',
            'resources: ["endpointslices"], verbs: ["list", "watch"]',
            "ClusterRole",
            "--namespace",
        ):
            assert part in reason
        api._faults.clear()
        await until(lambda: view.synced)


async def test_k8_a_refusal_in_a_namespace_asks_for_a_role_there(api):
    api.fail("watch", 3, plural="services", status=403)
    async with viewing(api, namespaces=["shop"]) as view:
        await until(lambda: failures(view, "forbidden") == 3)
        await until(lambda: api.watches == 2)
        assert view.addresses() == BOTH


async def test_k9_a_refused_token_is_taken_anew_once_and_at_once(api):
    api.token = "new"
    access = Access(api)
    access.token, access.fresh_token = "old", "new"
    async with viewing(api, access=access) as view:
        assert view.addresses() == BOTH
        assert failures(view, "unauthorized") == 0


async def test_k9_no_token_is_sent_that_is_older_than_its_file(api, tmp_path):
    """As the kubelet does it: a new folder, and one swap of the link that leads to it."""

    def rotate(token):
        folder = tmp_path / f"..{token}"
        folder.mkdir()
        (folder / "token").write_text(token)
        (tmp_path / "..new").symlink_to(folder)
        (tmp_path / "..new").replace(tmp_path / "..data")
        api.token = token  # any other is answered with 401 from now on

    rotate("t0")
    (tmp_path / "token").symlink_to("..data/token")
    access, file = Access(api), TokenFile(tmp_path / "token", "token file")
    access.headers = file.headers
    async with viewing(api, access=access) as view:
        for turn in range(1, 6):
            await until(lambda: api.watches == 2)
            rotate(f"t{turn}")
            api.put(endpoint_slice("c", f"10.0.1.{turn}"))
            api.cut_watches()
            await until(lambda turn=turn: f"10.0.1.{turn}" in view.addresses())
        assert failures(view, "unauthorized") == 0


async def test_k9_a_token_that_stays_refused_is_waited_out(api):
    api.token = "right"
    access = Access(api)
    access.token = "wrong"
    async with viewing(api, access=access, synced=False) as view:
        await until(lambda: failures(view, "unauthorized") >= 3)
        assert "the test's account" in view.reason
        assert "wrong" not in view.reason
        access.token = "right"
        await until(lambda: view.synced)


async def test_credentials_go_to_no_other_server(api):
    headers = {"Location": "http://127.0.0.1:1/elsewhere"}
    api.fail("list", 2, status=307, headers=headers)
    async with viewing(api) as view:
        assert failures(view, "http_3xx") == 2


async def test_a_server_that_accepts_and_never_answers_is_given_up(api):
    stuck = asyncio.Event()

    async def silent(_request):
        await stuck.wait()
        return web.Response()

    api.fail("list", 1, act=silent)
    async with viewing(api, timing={"list_s": 0.05}) as view:
        assert view.addresses() == BOTH
        assert failures(view, "timeout") == 1
        stuck.set()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"items": []}', b'{"metadata": {}, "items": 3}', b"<html>"],
)
async def test_an_answer_that_is_no_list_is_no_empty_list(api, body):
    async with viewing(api) as view:
        api.objects.version += 1
        api.objects.compact()
        api.fail("list", 3, plural="endpointslices", status=200, body=body)
        told = len(view.told)
        api.cut_watches()
        await until(lambda: failures(view, "garbage") == 3)
        await until(lambda: api.watches == 2)
        assert len(view.told) == told


async def test_two_namespaces_are_two_lists_and_nothing_of_a_third_is_read(api):
    api.put(
        service(namespace="other"),
        endpoint_slice("o", "10.0.6.1", namespace="other"),
        service(namespace="third"),
    )
    async with viewing(api, namespaces=["shop", "other"]) as view:
        assert set(view.clusters) == {"orders.shop:8080", "orders.other:8080"}
        api.put(endpoint_slice("p", "10.0.6.2", namespace="other"))
        await until(lambda: len(view.addresses("orders.other:8080")) == 2)
        assert view.addresses() == BOTH


async def test_a_selector_chooses_services(api):
    chosen = service("users")
    chosen["metadata"]["labels"] = {"team": "shop"}
    api.put(chosen, endpoint_slice("u", "10.0.5.1", of="users"))
    async with viewing(api, selector="team=shop") as view:
        assert set(view.clusters) == {"users.shop:8080"}


async def test_the_region_is_the_clusters_name(api):
    async with viewing(api, region="east") as view:
        (snapshot,) = view.clusters.values()
        assert {e.locality.region for e in snapshot.endpoints} == {"east"}


async def test_a_fault_of_our_own_ends_the_source_with_its_reason(api):
    def broken(_problem):
        raise RuntimeError("no place to report to")

    bad = endpoint_slice("a", "10.0.0.5")
    bad["endpoints"] = "many"
    api.put(bad)
    view = View(api)
    view.source._report = broken
    with pytest.raises(RuntimeError, match="no place"):
        await asyncio.wait_for(view.read(), 10)


@pytest.mark.parametrize("missing", ["services", "endpointslices"])
async def test_services_whose_slices_are_not_known_are_not_told_as_empty(api, missing):
    api.fail("list", 50, plural=missing, status=403)
    async with viewing(api, synced=False) as view:
        await until(lambda: failures(view, "forbidden") >= 3)
        assert view.told == []
        await until(lambda: view.synced)
        assert [len(e.snapshot.endpoints) for e in view.told[:-1]] == [2]


async def test_a_namespace_that_may_not_be_read_holds_up_no_other(api):
    api.put(service(namespace="other"), endpoint_slice("o", "10.0.9.1", namespace="other"))

    async def deny(request):
        if request.match_info["namespace"] == "other":
            return web.Response(status=403)
        return api._list(request, request.match_info["plural"])

    api.fail("list", 1000, act=deny)
    async with viewing(api, synced=False, namespaces=["shop", "other"]) as view:
        await until(lambda: view.addresses() == BOTH)
        await until(lambda: failures(view, "forbidden") >= 3)
        assert list(view.clusters) == ["orders.shop:8080"]
        assert not view.synced
        api._faults.clear()
        await until(lambda: view.synced)
        assert view.addresses("orders.other:8080") == ["10.0.9.1"]


class Nowhere(Access):
    server = "https://127.0.0.1:1"


async def test_a_server_that_refuses_connections_is_said_in_words(api):
    async with viewing(api, access=Nowhere(api), synced=False) as view:
        await until(lambda: view.reason)
        assert "127.0.0.1:1" in view.reason
        assert "ssl:" not in view.reason
        assert "object at" not in view.reason


class BehindProxy(Access):
    server = "https://10.1.1.1:6443"
    proxy = None


async def test_a_proxy_that_refuses_is_named_without_its_password(api, caplog):
    access = BehindProxy(api)
    access.proxy = api.address.replace("http://", "http://me:do-not-show@")  # it knows no CONNECT
    async with viewing(api, access=access, synced=False) as view:
        await until(lambda: view.reason)
        assert "the proxy answered 404 Not Found; check the proxy-url" in view.reason
        assert "the test's account" in view.reason
    assert "do-not-show" not in caplog.text


async def test_a_list_whose_pages_never_end_is_given_up(api):
    endless = {"metadata": {"resourceVersion": "5", "continue": "again"}, "items": []}
    api.fail("list", 4, plural="services", body=json.dumps(endless).encode(), status=200)
    async with viewing(api) as view:
        assert failures(view, "garbage") == 2
        assert view.addresses() == BOTH


async def test_gone_is_gone_whatever_its_body_says(api):
    async with viewing(api) as view:
        await until(lambda: api.watches == 2)
        api.fail("watch", status=410, body=b'{"kind":"Status","code":0}', plural="services")
        api.cut_watches()
        await until(lambda: api.count("list", "services") == 2)
        assert view.addresses() == BOTH


async def test_a_proxy_that_tunnels_leads_to_the_server(api):
    """The way of ``proxy-url``: CONNECT, and everything after it to the server and back."""
    asked, tunnels, writers = [], [], []

    async def pump(reader, writer):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
        writer.close()

    async def tunnel(reader, writer):
        tunnels.append(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0])
        there = await asyncio.open_connection("127.0.0.1", int(api.address.rpartition(":")[2]))
        writers.extend((writer, there[1]))
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            there[1].write(head)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    access = Access(api)
    access.proxy = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    async with viewing(api, access=access) as view:
        assert view.addresses() == BOTH
        assert asked
    proxy.close()
    for task in tunnels:
        task.cancel()
    await asyncio.gather(*tunnels, return_exceptions=True)
    for writer in writers:
        writer.close()
    await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)
