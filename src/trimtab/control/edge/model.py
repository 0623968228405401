"""What an edge is to do: where it listens, and which requests go to which Service."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.control.config import Address


@dataclass(frozen=True, slots=True)
class Fallback:
    """Where requests go while a Service has no endpoints, or nothing is known of it yet.

    Attributes:
        addresses: host names, which are resolved again and again, or IP addresses.
        http2: whether they speak HTTP/2 without TLS (h2c); else HTTP/1.1.
    """

    addresses: tuple[Address, ...]
    http2: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests go to a Service; of several that fit, the first does.

    Attributes:
        service: a name of its cluster, such as ``orders.shop:8080``.
        hosts: host names, ``*`` for all, ``*.example.com`` for those below.
        prefix: how the path begins, at whole parts: ``/orders`` fits ``/orders/7``, not ``/ordersx``.
        timeout_s: how long a request may take in all [s]; 0: for ever.
        idle_timeout_s: how long a request and its answer may be silent [s]; 0: for ever. None: as
            long as the request may take, but at least the 300 s that are Envoy's default.
        retries: how often a request that no pod has begun to handle is tried again elsewhere; one that
            only reads, also where the connection ended before an answer began.
        hash_key: the header that a hashing policy goes by, "": none.
        http2: with endpoints only: whether the Service speaks h2c. Otherwise its ``appProtocol``
            says so.
        fallback: None: such requests fail with 503.
    """

    service: str
    hosts: tuple[str, ...] = ("*",)
    prefix: str = "/"
    timeout_s: float = 15.0
    idle_timeout_s: float | None = None
    retries: int = 2
    hash_key: str = ""
    http2: bool = False
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """One Envoy.

    Attributes:
        listeners: where it takes requests, HTTP/1.1 and h2c alike.
        routes: in order.
        admin: where its own pages are.
    """

    listeners: tuple[Address, ...]
    routes: tuple[Route, ...]
    admin: Address
