"""What pods say of themselves reaches the endpoints of the Services that ask, and of no others."""

from fake_api.view import until, viewing
from kube import endpoint, endpoint_slice, service

LABELS = {"trimtab.dev/endpoint-labels": "shard, model"}
STARTED = "2026-11-01T10:00:00Z"
STARTED_S = 1793527200.0


def pod(name, *, labels=None, weight=None, started=STARTED, namespace="shop"):
    annotations = {} if weight is None else {"trimtab.dev/weight": weight}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{name}",
            "namespace": namespace,
            "uid": name,
            "labels": labels or {},
            "annotations": {"kubernetes.io/other": "x", **annotations},
        },
        "spec": {"containers": [{"name": "app", "image": "x"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "app", "state": {"running": {"startedAt": started}}}],
        },
    }


def asking(api, annotations=LABELS):
    """``orders.shop`` with the pods ``a`` and ``b`` asks for labels."""
    api.put(
        service(annotations=annotations),
        endpoint_slice("a", endpoint("10.0.0.1", uid="a")),
        endpoint_slice("b", endpoint("10.0.0.2", uid="b")),
    )


def facts(view, cluster="orders.shop:8080"):
    return {
        e.uid: (dict(e.labels), e.weight, e.ready_since) for e in view.clusters[cluster].endpoints
    }


async def test_no_pod_is_read_while_no_service_asks(api):
    api.put(pod("a", labels={"shard": "1"}))
    async with viewing(api) as view:
        assert view.addresses() == ["10.0.0.1", "10.0.0.2"]
        assert not api.count("list", "pods")
        assert not api.count("watch", "pods")


async def test_the_first_that_is_told_of_a_service_that_asks_has_its_pods_facts(api):
    asking(api)
    api.put(pod("a", labels={"shard": "1", "app": "orders"}, weight="5"), pod("b"))
    async with viewing(api) as view:
        assert facts(view) == {
            "a": ({"shard": "1"}, 5, STARTED_S),
            "b": ({}, 1, STARTED_S),
        }
        told = [e.snapshot for e in view.told if hasattr(e, "snapshot")]
        assert all(e.ready_since for s in told for e in s.endpoints)
        assert [r for r in api.requests if r[1] == "pods"]


async def test_changes_of_pods_are_followed(api):
    asking(api)
    api.put(pod("a"), pod("b"))
    async with viewing(api) as view:
        api.put(pod("a", labels={"model": "large"}, weight="3"))
        await until(lambda: facts(view)["a"] == ({"model": "large"}, 3, STARTED_S))
        api.put(pod("a", started="2026-11-01T10:00:01Z"))  # its container was started again
        await until(lambda: facts(view)["a"] == ({}, 1, STARTED_S + 1))
        api.put(endpoint_slice("c", endpoint("10.0.0.3", uid="c")), pod("c", weight="7"))
        await until(lambda: facts(view).get("c", ("", 0))[1] == 7)


async def test_a_service_that_asks_later_or_no_more_is_heard(api):
    async with viewing(api) as view:
        api.put(pod("a", labels={"shard": "1"}), pod("b"))
        asking(api)
        await until(lambda: facts(view).get("a") == ({"shard": "1"}, 1, STARTED_S))
        asking(api, {"trimtab.dev/endpoint-labels": ""})  # weights and start times alone
        await until(lambda: facts(view)["a"] == ({}, 1, STARTED_S))
        asking(api, {"trimtab.dev/endpoint-labels": "shard"})
        await until(lambda: facts(view)["a"] == ({"shard": "1"}, 1, STARTED_S))
        asking(api, {})
        await until(lambda: facts(view)["a"] == ({}, 1, None))
        before = api.count("list", "pods")
        api.delete(pod("a"))
        api.put(endpoint_slice("c", "10.0.0.3"))
        await until(lambda: "10.0.0.3" in view.addresses())
        assert api.count("list", "pods") == before


async def test_pods_of_other_namespaces_are_not_read(api):
    asking(api)
    api.put(pod("a", weight="2"), pod("x", namespace="bank", weight="9"))
    async with viewing(api) as view:
        assert facts(view)["a"][1] == 2
        assert {path for path in api.paths if path.endswith("/pods")} == {
            "/api/v1/namespaces/shop/pods"
        }


async def test_pods_that_may_not_be_read_cost_nothing_but_their_facts(api):
    asking(api)
    api.fail("list", times=1000, plural="pods", status=403)
    async with viewing(api) as view:
        assert facts(view) == {"a": ({}, 1, None), "b": ({}, 1, None)}
        assert "pods" in view.reason


async def test_a_bad_weight_is_named_and_counts_as_one(api):
    asking(api)
    api.put(pod("a", weight="heavy"), pod("b", weight="1000000"))
    async with viewing(api) as view:
        assert {e.weight for e in view.clusters["orders.shop:8080"].endpoints} == {1}
        assert {(p.where, p.field, p.value) for p in view.problems} == {
            ("Pod shop/pod-a", "metadata.annotations[trimtab.dev/weight]", "'heavy'"),
            ("Pod shop/pod-b", "metadata.annotations[trimtab.dev/weight]", "'1000000'"),
        }


async def test_a_pod_that_has_a_container_not_running_has_no_start_time(api):
    asking(api)
    waiting = pod("a")
    waiting["status"]["containerStatuses"].append({"name": "b", "state": {"waiting": {}}})
    api.put(waiting, pod("b", started="soon"))
    async with viewing(api) as view:
        assert {since for _, _, since in facts(view).values()} == {None}
