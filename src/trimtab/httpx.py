"""For programs that use httpx: transports that pick an endpoint for every request.

::

    async with httpx.AsyncClient(transport=AsyncTransport(hosts=["*.shop"])) as client:
        await client.get("http://orders.shop:8080/orders/7")

Needs the extra ``httpx``.
"""

from __future__ import annotations

try:
    import httpcore
    import httpx
except ImportError as error:
    raise ImportError(
        "trimtab.httpx needs httpx; install it with: pip install 'trimtab[httpx]'"
    ) from error

from trimtab.client.httpx_async import AsyncCore
from trimtab.client.httpx_bodies import AsyncBody, SyncBody
from trimtab.client.httpx_sync import SyncCore

__all__ = ["AsyncTransport", "Transport"]


class _AsyncBody(AsyncBody, httpx.AsyncByteStream):
    pass


class _SyncBody(SyncBody, httpx.SyncByteStream):
    pass


class AsyncTransport(AsyncCore, httpx.AsyncBaseTransport):
    """Give it to ``httpx.AsyncClient(transport=...)``; see ``Transport`` for the arguments."""

    _library = httpx
    _core = httpcore
    _inner = httpx.AsyncHTTPTransport
    _body = _AsyncBody


class Transport(SyncCore, httpx.BaseTransport):
    """Give it to ``httpx.Client(transport=...)``. Safe to use from several threads.

    Args:
        hosts: whose ``http://`` and ``https://`` URLs name clusters: ``orders.shop:8080``,
            ``orders.shop`` (all ports) or ``*.shop``. ``xds://`` URLs always do. All other
            URLs go where they say.
        policy: a policy's name or configuration; None follows the control plane.
        endpoints: fixed lists of endpoints by cluster, ``{"orders.shop:8080": ["10.0.0.1:8080"]}``;
            no control plane is asked for these.
        bootstrap: as for ``trimtab.insecure_channel``.
        locality: as for ``trimtab.insecure_channel``.
        labels: as for ``trimtab.insecure_channel``.
        fallback: whom to ask while there is nobody: a ``trimtab.LastGood`` for all clusters, or what
            ``trimtab.insecure_channel`` takes, by cluster: ``{"orders.shop:8080": [...]}``.
        retry: when idempotent requests are sent again; None: once, after 503 or a connection that broke.
        retries: the same by method, ``{"POST": trimtab.Retry(on=[503])}``, before ``retry``; a method
            that isn't idempotent is sent again only if it is named here.
        hash_key: a function of the HTTP method, the headers and the request, which gives the key of a request
            or None; asked where the policy wants keys (``ring_hash``).
        idle_s: services that were not called for so long [s] are followed no more as soon as another one is
            called for the first time; None: a service that was called once is followed for good.
        options: of each endpoint's ``httpx.HTTPTransport`` (``http2``, ``verify``, ``limits``,
            ...), and of the one for all other URLs; only that one uses ``proxy``.

    Raises:
        ConfigError: a wrong argument; with the first request to a cluster, a wrong or missing bootstrap of
            the environment's.
    """

    _library = httpx
    _core = httpcore
    _inner = httpx.HTTPTransport
    _body = _SyncBody
