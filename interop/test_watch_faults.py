"""Faults of an API server that a real one doesn't show on demand: no client loses a request.

The API server is scripted (``fake_api``); the control plane and its clients are real.
"""

import pytest

from fake_api import ThreadedApi
from harness.control_plane import ControlPlane
from harness.kube.space import Space
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

RETURN_WITHIN_S = 20
HOLD_S = 20  # long enough for a busy machine to look


@pytest.fixture
def api(started):
    return started(ThreadedApi())


@pytest.fixture
def space(api, backends):
    """The namespace ``shop`` of the scripted server."""
    return Space("shop", api, backends, controlled=False)


@pytest.fixture
def hold_down(request):
    """Options of the control plane; tests that wait for the hold's end have it shorter."""
    return ["--hold-down", str(request.param)] if hasattr(request, "param") else []


@pytest.fixture
def kube_control_plane(addresses, api, orders_pods, tmp_path, started, hold_down):
    """A running ``trimtab serve --kubeconfig`` that reads it."""
    assert orders_pods
    options = ["--kubeconfig", api.write_kubeconfig(tmp_path / "kubeconfig"), *hold_down]
    plane = started(ControlPlane(addresses, None, options=options))
    plane.start()
    return plane


def slices_of(*names):
    return [{"kind": "EndpointSlice", "metadata": {"name": n, "namespace": "shop"}} for n in names]


def wait_withheld(plane, count, within=RETURN_WITHIN_S):
    def look():
        kept = plane.metric("trimtab_kube_withheld_objects")
        return kept == count or Unmet(f"{kept}")

    eventually(look, within=within, what=f"{count} objects are missed and kept")


def wait_lists(plane, more_than):
    def look():
        lists = plane.metric("trimtab_kube_lists_total", resource="endpointslices")
        return lists > more_than or Unmet(f"{lists}")

    eventually(look, within=RETURN_WITHIN_S, what="another list")


def test_an_empty_list_costs_no_request_and_what_comes_back_is_followed(
    every_road, kube_control_plane, api, space
):
    """200, no objects, and no watch that told of a deletion: as after a restore from a backup."""
    service = {"kind": "Service", "metadata": {"name": "orders", "namespace": "shop"}}
    with every_road.load() as load:
        load.comes_from("a", "b")
        api.do(lambda fake: fake.forget(service, *slices_of("a", "b")))
        api.do(lambda fake: fake.cut_watches())
        wait_withheld(kube_control_plane, 3)
        load.goes_on(60)
        space.service()
        space.open("c")
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)


@pytest.mark.parametrize("hold_down", [HOLD_S], indirect=True)
def test_a_list_that_lacks_one_of_many_services_costs_no_request_and_is_followed_after_the_hold(
    every_road, kube_control_plane, orders_pods, api, space
):
    """The slices of a small Service, far from a fifth of all endpoints; all that calls it would fail."""
    space.service("large")
    space.slice("large", [f"10.77.200.{n}" for n in range(1, 201)], of="large")
    pods = [*orders_pods.values(), *space.open("c", "d", "e")]
    with every_road.load() as load:
        load.comes_from("a", "b", "c", "d", "e")
        api.do(lambda fake: fake.forget(*slices_of("a", "b", "c", "d", "e")))
        api.do(lambda fake: fake.cut_watches())
        wait_withheld(kube_control_plane, 5)
        space.open("f")
        load.comes_from("a", "b", "c", "d", "e", "f")
        wait_withheld(kube_control_plane, 0, within=HOLD_S + RETURN_WITHIN_S)
        load.comes_from("f", within=RETURN_WITHIN_S)
        assert [space.close(pod) for pod in pods] == [0] * 5
        load.goes_on(20)


@pytest.mark.parametrize("form", ["status", "event", "silent"])
def test_a_watch_that_is_gone_in_the_middle_of_a_rollout_costs_no_request(
    every_road, kube_control_plane, orders_pods, api, space, form
):
    """410 as the watch's status, as an event in it, and as an end without a word: then a list tells."""

    def speak(fake):
        fake.gone_inside, fake.silent_gone = form == "event", form == "silent"

    api.do(speak)
    with every_road.load() as load:
        load.comes_from("a", "b")
        space.open("c")
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)
        lists = kube_control_plane.metric("trimtab_kube_lists_total", resource="endpointslices")
        api.do(lambda fake: fake.forget(*slices_of("a")))
        api.do(lambda fake: fake.cut_watches())
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
        wait_lists(kube_control_plane, lists)
        assert space.close(orders_pods["a"]) == 0
        space.open("d")
        space.remove(orders_pods["b"])
        load.comes_from("c", "d", within=RETURN_WITHIN_S)
        assert space.close(orders_pods["b"]) == 0
        load.goes_on(20)


@pytest.mark.parametrize("how", ["end_watches", "cut_watches"])
def test_watches_that_end_without_a_word_all_the_time_cost_no_request_and_changes_follow(
    every_road, orders_pods, api, space, how
):
    with every_road.load() as load:
        load.comes_from("a", "b")
        for _ in range(20):
            api.do(lambda fake: getattr(fake, how)())
            load.goes_on(1)
        space.open("c")
        api.do(lambda fake: getattr(fake, how)())
        load.comes_from("a", "b", "c", within=RETURN_WITHIN_S)
        api.do(lambda fake: getattr(fake, how)())
        space.remove(orders_pods["a"])
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
        assert space.close(orders_pods["a"]) == 0
        load.goes_on(20)


def test_watches_that_stay_open_and_tell_nothing_cost_no_request_and_what_they_kept_back_follows(
    every_road, orders_pods, api, space
):
    with every_road.load() as load:
        load.comes_from("a", "b")
        api.do(lambda fake: fake.silence())
        space.open("c")
        space.remove(orders_pods["a"])
        load.goes_on(60)
        load.comes_from("a", "b")  # nobody could say so yet
        api.do(lambda fake: fake.cut_watches())
        load.comes_from("b", "c", within=RETURN_WITHIN_S)
        assert space.close(orders_pods["a"]) == 0
        load.goes_on(20)
