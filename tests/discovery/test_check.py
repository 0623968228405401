"""What is wrong with manifests is found before they are used."""

import pytest
import yaml

from kube import endpoint_slice, service
from trimtab.discovery.check import check
from trimtab.errors import DiscoveryError


def put(path, *documents):
    path.write_text(yaml.safe_dump_all(documents))


def test_good_manifests_are_counted_and_nothing_is_said(tmp_path):
    put(tmp_path / "a.yaml", service(), endpoint_slice("a", "10.0.0.1", "127.0.0.1"))
    put(tmp_path / "b.yaml", service("carts"), endpoint_slice("c", "10.0.0.1", of="carts"))
    put(tmp_path / "c.yaml", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})
    found = check(tmp_path)
    assert (found.problems, found.warnings) == ((), ())
    assert [s.cluster for s in found.snapshots] == ["carts.shop:8080", "orders.shop:8080"]
    assert (found.endpoints, found.files, found.ignored) == (3, 3, 1)


def test_one_file_is_checked_as_a_directory_is(tmp_path):
    put(tmp_path / "a.yaml", service(), endpoint_slice("a", "10.0.0.1"))
    assert check(tmp_path / "a.yaml") == check(tmp_path)


@pytest.mark.parametrize("of_other_kinds", [0, 1])
def test_a_place_without_services_is_good_with_a_warning(tmp_path, of_other_kinds):
    put(tmp_path / "a.yaml", *[{"apiVersion": "apps/v1", "kind": "Deployment"}] * of_other_kinds)
    found = check(tmp_path)
    assert (found.snapshots, found.problems, found.ignored) == ((), (), of_other_kinds)
    (warning,) = found.warnings
    assert warning.where == str(tmp_path)
    assert "no Service" in warning.fix


@pytest.mark.parametrize(
    ("documents", "where", "field"),
    [
        (
            [service(annotations={"trimtab.dev/policy": "fastest"}), endpoint_slice("a")],
            "Service shop/orders",
            "metadata.annotations[trimtab.dev/policy]",
        ),
        (
            [service(), endpoint_slice("a", "10.0.0.1", "169.254.169.254")],
            "EndpointSlice shop/a",
            "endpoints[1].addresses[0]",
        ),
        (
            [service(), endpoint_slice("a"), service("x", ports=[{"port": "none"}])],
            "Service shop/x (a.yaml, document 3)",
            "spec.ports[0].port",
        ),
        ([service(type="ExternalName")], "Service shop/orders", "spec.type"),
        (
            [service(), endpoint_slice("a"), endpoint_slice("f", "x.org", addressType="FQDN")],
            "EndpointSlice shop/f",
            "addressType",
        ),
    ],
)
def test_what_serve_rejects_is_a_problem(tmp_path, documents, where, field):
    put(tmp_path / "a.yaml", *documents)
    found = check(tmp_path)
    assert [(p.where, p.field) for p in found.problems] == [(where, field)]
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("documents", "where", "field"),
    [
        (
            [endpoint_slice("a", "10.0.0.1")],
            "EndpointSlice shop/a",
            "metadata.labels[kubernetes.io/service-name]",
        ),
        (
            [endpoint_slice("a", "10.0.0.1", of=None)],
            "EndpointSlice shop/a",
            "metadata.labels[kubernetes.io/service-name]",
        ),
        (
            [service(), endpoint_slice("a", "10.0.0.1", ports=[("grpc", 1), ("http", 2)])],
            "EndpointSlice shop/a",
            "ports",
        ),
        (
            [service(ports=[("grpc", 1), ("http", 2)]), endpoint_slice("a", "10.0.0.1")],
            "Service shop/orders",
            "spec.ports[1].name",
        ),
        ([service()], "Service shop/orders", ""),
        (
            [service(ports=()), endpoint_slice("a", "10.0.0.1", ports=())],
            "Service shop/orders",
            "spec.ports",
        ),
        (
            [service(annotations={"trimtab.dev/polcy": "p2c"}), endpoint_slice("a", "10.0.0.1")],
            "Service shop/orders",
            "metadata.annotations[trimtab.dev/polcy]",
        ),
    ],
)
def test_what_may_not_be_meant_is_a_warning(tmp_path, documents, where, field):
    put(tmp_path / "a.yaml", *documents)
    found = check(tmp_path)
    assert [(p.where, p.field) for p in found.warnings] == [(where, field)]
    assert found.problems == ()


def test_a_broken_file_is_a_problem_with_its_line_and_the_others_are_checked(tmp_path):
    put(tmp_path / "a.yaml", service(), endpoint_slice("a", "10.0.0.1"))
    (tmp_path / "b.yaml").write_text("kind: Service\nspec: [\n")
    found = check(tmp_path)
    assert [p.where for p in found.problems] == [f"{tmp_path / 'b.yaml'}:3"]
    assert [s.cluster for s in found.snapshots] == ["orders.shop:8080"]


def test_a_huge_file_is_a_problem(tmp_path):
    put(tmp_path / "a.yaml", service())
    assert "split it" in check(tmp_path, max_bytes=10).problems[0].fix


def test_an_object_in_two_files_is_a_problem(tmp_path):
    put(tmp_path / "a.yaml", service(), endpoint_slice("a", "10.0.0.1"))
    put(tmp_path / "b.yaml", endpoint_slice("a", "10.0.0.2"))
    (problem,) = check(tmp_path).problems
    assert problem.where == "EndpointSlice shop/a (b.yaml)"


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DiscoveryError, match="there is no such file or directory"):
        check(tmp_path / "nowhere")


def test_a_bad_weight_of_a_pod_is_a_problem_if_its_service_asks(tmp_path):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop"}}
    pod["metadata"]["annotations"] = {"trimtab.dev/weight": "heavy"}
    put(tmp_path / "a.yaml", service(), endpoint_slice("a", "10.0.0.1"), pod)
    assert check(tmp_path).problems == ()
    asking = service(annotations={"trimtab.dev/endpoint-labels": ""})
    put(tmp_path / "a.yaml", asking, endpoint_slice("a", "10.0.0.1"), pod)
    (problem,) = check(tmp_path).problems
    assert problem.where == "Pod shop/a"
