"""Both ports on every interface: a pod's address may be IPv4, IPv6, or both."""

import socket

import pytest

from plane import QueueSource, RawClient, assignments, get, running, updated
from trimtab.control.config import Address
from trimtab.control.listening import on_every_interface
from trimtab.errors import TrimtabError
from trimtab.model import Synced
from trimtab.xds.type_urls import EDS

EVERYWHERE = Address("", 0)
ORDERS = "orders.shop:8080"


async def test_without_a_host_both_ports_are_had_by_ipv4_and_by_ipv6():
    source = QueueSource(updated("orders", 1), Synced())
    async with running(source, xds=EVERYWHERE, admin=EVERYWHERE, insecure=True) as plane:
        await plane.store.synced.wait()
        for host in ("127.0.0.1", "::1"):
            status, _, _ = await get(Address(host, plane.admin_address.port), "/readyz")
            assert status == 200
            async with RawClient(Address(host, plane.xds_address.port)) as client:
                stream = client.sotw()
                await stream.hello(type_url=EDS, resource_names=[ORDERS])
                assert assignments(await stream.read()) == {ORDERS: [1]}


async def test_a_port_that_another_process_has_is_refused_by_name():
    with on_every_interface(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TrimtabError, match=f"--admin :{port}: cannot listen there"):
            async with running(QueueSource(), admin=Address("", port), insecure=True):
                pass


async def test_without_ipv6_it_is_ipv4_alone(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    async with running(QueueSource(Synced()), admin=EVERYWHERE, insecure=True) as plane:
        await plane.store.synced.wait()
        at = Address("127.0.0.1", plane.admin_address.port)
        assert (await get(at, "/readyz"))[0] == 200
