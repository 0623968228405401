"""What httpx and httpx2 can and aiohttp can't: HTTP/2, and URLs of scheme xds."""

import pytest

import trimtab.httpx
import trimtab.httpx2
from http_doors import Httpx2Async, Httpx2Sync, HttpxAsync, HttpxSync
from trimtab.errors import ConfigError

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
