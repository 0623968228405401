"""What the catalog remembers of things that are gone is bounded."""

from trimtab.xds import catalog, type_urls
from xds_peer import Plane, service, snapshot


def test_only_the_latest_deleted_services_are_remembered():
    plane = Plane()
    client = catalog.Client()
    extra = 5
    for i in range(catalog._MAX_DEPARTED + extra):
        plane.update(snapshot(of=service(f"s{i}")))
        plane.remove(f"s{i}.shop:8080")

    assert not plane.catalog.was_deleted(f"s{extra - 1}.shop:8080", client)
    assert plane.catalog.was_deleted(f"s{extra}.shop:8080", client)


def test_only_so_many_answers_for_unknown_names_are_kept():
    plane = Plane()
    client = catalog.Client(kind=catalog.ClientKind.GRPC)
    for i in range(catalog._MAX_MISSING + 1):
        plane.catalog.missing(type_urls.LDS, f"unknown-{i}", client)

    assert len(plane.catalog._missing) <= catalog._MAX_MISSING
