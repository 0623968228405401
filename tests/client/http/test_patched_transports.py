"""Users' test suites replace the function with which the libraries' transports send; balanced requests are told by it, too."""

import httpx
import httpx2
import pytest

import trimtab.httpx
import trimtab.httpx2
from http_doors import Httpx2Async, Httpx2Sync, HttpxAsync, HttpxSync

URL = "http://orders.shop:8080"
SOME = pytest.mark.parametrize(
    "kind", [HttpxAsync, HttpxSync, Httpx2Async, Httpx2Sync], ids=lambda kind: kind.__name__
)


def replaced(monkeypatch, kind, answer):
    """Replace the function as pytest-httpx does; ``answer`` gives a response, or None to have it sent."""
    library = kind.library
    if "Async" in kind.__name__:
        sends = library.AsyncHTTPTransport.handle_async_request

        async def instead_async(transport, request):
            given = answer(request)
            return given or await sends(transport, request)

        monkeypatch.setattr(library.AsyncHTTPTransport, "handle_async_request", instead_async)
    else:
        send = library.HTTPTransport.handle_request

        def instead(transport, request):
            return answer(request) or send(transport, request)

        monkeypatch.setattr(library.HTTPTransport, "handle_request", instead)


@SOME
async def test_a_replacement_answers_a_balanced_request_without_endpoints_or_a_control_plane(
    kind, monkeypatch
):
    asked = []

    def answer(request):
        asked.append((request.method, str(request.url), request.headers["host"]))
        return kind.library.Response(418, json={"mocked": True})

    replaced(monkeypatch, kind, answer)
    monkeypatch.delenv("TRIMTAB_CONTROL_PLANE", raising=False)
    client = kind(hosts=["*.shop"])
    answered = await client.send("POST", f"{URL}/orders?a=%20b", content=b"{}")
    assert (answered.status, answered.seen) == (418, {"mocked": True})
    assert asked == [("POST", f"{URL}/orders?a=%20b", "orders.shop:8080")]
    await client.close()


@SOME
async def test_what_a_replacement_passes_on_is_balanced_as_it_was_or_was_changed(
    kind, servers, monkeypatch
):
    opened = servers.open("a", "b")

    def changed(request):
        request.headers["x-request-id"] = "7"

    replaced(monkeypatch, kind, changed)
    client = kind(endpoints={"orders.shop:8080": [s.target for s in opened]}, policy="round_robin")
    answers = [
        await client.send("PUT", f"{URL}/who%2Fis?q=a%20b", content=b"twice") for _ in range(4)
    ]
    assert sorted(a.seen["server"] for a in answers) == ["a", "a", "b", "b"]
    for answer in answers:
        assert answer.seen["target"] == "/who%2Fis?q=a%20b"
        assert (answer.seen["host"], answer.seen["body"]) == ("orders.shop:8080", "twice")
        assert answer.url == f"{URL}/who%2Fis?q=a%20b"
    (cluster,) = client.transport._clusters
    assert not any(node.in_flight for node in cluster.balancer.nodes.values())
    opened[0].status["/"] = 503  # what is passed on has attempts as ever
    for _ in range(2):
        assert (await client.send("GET", URL + "/")).seen["server"] == "b"
    await client.close()


@SOME
async def test_what_a_replacement_sends_elsewhere_goes_there_and_is_not_told_again(
    kind, servers, monkeypatch
):
    elsewhere, seen = servers.open("elsewhere"), []

    def moved(request):
        seen.append(str(request.url))
        request.url = kind.library.URL(f"http://{elsewhere.target}/moved?from={request.url.path}")

    replaced(monkeypatch, kind, moved)
    client = kind(endpoints={"orders.shop:8080": [servers.open("a").target]})
    answer = await client.send("GET", f"{URL}/7")
    assert (answer.seen["server"], answer.seen["target"]) == ("elsewhere", "/moved?from=/7")
    assert seen == [f"{URL}/7"]
    await client.close()


@SOME
async def test_when_a_replacement_has_gone_nothing_is_left_of_it(kind, servers):
    client = kind(endpoints={"orders.shop:8080": [servers.open("a").target]})
    with pytest.MonkeyPatch.context() as patching:
        replaced(patching, kind, lambda _request: kind.library.Response(418))
        assert (await client.send("GET", URL + "/")).status == 418
    assert (await client.send("GET", URL + "/")).status == 200
    await client.close()


@pytest.mark.parametrize(
    ("library", "transports"),
    [(httpx, trimtab.httpx), (httpx2, trimtab.httpx2)],
    ids=["httpx", "httpx2"],
)
async def test_a_transport_made_while_the_function_is_replaced_sends_when_it_is_back(
    library, transports, servers
):
    a = servers.open("a")
    kind = HttpxAsync if library is httpx else Httpx2Async
    with pytest.MonkeyPatch.context() as patching:
        replaced(patching, kind, lambda _request: library.Response(418))

        class Face(transports.AsyncTransport):  # as if the module were imported now
            _inner = library.AsyncHTTPTransport

        client = library.AsyncClient(transport=Face(endpoints={"orders.shop:8080": [a.target]}))
        assert (await client.get(URL + "/")).status_code == 418
    assert (await client.get(URL + "/")).status_code == 200
    await client.aclose()
