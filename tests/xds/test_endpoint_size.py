"""What an endpoint weighs on the wire: docs/operations.md says how many fit into a response."""

import pytest

from trimtab.model import Endpoint, Locality
from trimtab.xds import catalog, type_urls
from xds_peer import Plane, service, snapshot

N = 1_000


@pytest.mark.parametrize(
    ("kind", "most"), [(catalog.ClientKind.GRPC, 32), (catalog.ClientKind.TRIMTAB, 135)]
)
def test_an_endpoint_stays_as_small_as_the_docs_say(kind, most):
    endpoints = [
        Endpoint(
            f"10.200.{100 + i // 200}.{20 + i % 200}",
            8080,
            locality=Locality(zone="eu-west-1a"),
            node=f"ip-10-200-{i:04d}.internal",
            uid=f"{i:08d}-aaaa-bbbb-cccc-ddddeeeeffff",
        )
        for i in range(N)
    ]
    port = service()
    plane = Plane()
    plane.update(snapshot(*endpoints, of=port))
    body = plane.catalog.get(type_urls.EDS, port.cluster, catalog.Client(kind=kind)).body
    assert len(body) / N <= most
