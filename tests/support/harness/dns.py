"""A DNS server on loopback, and an Envoy that asks it."""

import asyncio
import struct
import threading

_A = 1  # the type of a record with an IPv4 address
_RESOLVER = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3"


class Dns(asyncio.DatagramProtocol):
    """Answers each question for an IPv4 address, whatever the name, with ``addresses()``; TTL in s."""

    def __init__(self, addresses, *, ttl=5):
        self._addresses = addresses
        self._ttl = ttl

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, addr):
        end = data.index(0, 12) + 5
        (wanted,) = struct.unpack("!H", data[end - 4 : end - 2])
        hosts = list(self._addresses()) if wanted == _A else []
        answers = b"".join(
            struct.pack("!HHHIH4B", 0xC00C, _A, 1, self._ttl, 4, *map(int, host.split(".")))
            for host in hosts
        )
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, len(hosts), 0, 0)
        self._transport.sendto(head + data[12:end] + answers, addr)


class DnsServer:
    """A ``Dns`` on a thread with a loop of its own.

    Attributes:
        addresses: what it answers from now on.
        port: where, on 127.0.0.1.
    """

    def __init__(self, *addresses):
        self.addresses = addresses
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        opening = self._loop.create_datagram_endpoint(
            lambda: Dns(lambda: self.addresses, ttl=1), local_addr=("127.0.0.1", 0)
        )
        done = asyncio.run_coroutine_threadsafe(opening, self._loop)
        self._transport, _ = done.result(timeout=10)
        self.port = self._transport.get_extra_info("sockname")[1]

    def stop(self):
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join()
        self._loop.close()

    def _end(self):
        self._transport.abort()  # which closes its socket in the loop's next turn, and so before it stops
        self._loop.call_soon(self._loop.stop)


def asking(port):
    """The ``typed_dns_resolver_config`` of an Envoy, or of a cluster of it, that asks there."""
    return {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": f"{_RESOLVER}.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": port}}],
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
