"""What servers say of themselves is kept for whom it was asked, as long as it is fresh."""

import pytest

from plane import snapshot
from trimtab.control import metrics
from trimtab.control.loads import Loads
from trimtab.load_report import LoadReport
from trimtab.model import Synced, Updated
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog, Client, ClientKind
from trimtab.xds.load_stats import Load

ORDERS = "orders.shop:8080"


def asking(service, *ports, **how):
    return snapshot(service, *ports, out_of_band=True, **how)


class Scene:
    now = 1000.0

    def __init__(self, *snapshots):
        self.counters = Counters(metrics.METRICS)
        self.catalog = Catalog()
        for one in (*snapshots, None):
            self.catalog.apply(Updated(one) if one else Synced())
        self.loads = Loads(self.catalog, self.counters, lambda: self.now)
        self.servers = self.loads.servers
        self.servers.wanted(100)

    def say(self, **rps):
        for port, rate in rps.items():
            self.servers.take(f"127.0.0.1:{port[1:]}", LoadReport(rps=rate, in_flight=2))

    def gauge(self, name):
        self.loads.measure()
        values = next(values for metric, values in self.counters if metric.name == name)
        return dict(values.items())


def test_only_services_that_ask_are_read_and_no_more_endpoints_than_allowed():
    scene = Scene(asking("orders", 1, 2, 3), snapshot("quiet", 7), asking("pay", 4))
    assert scene.servers.wanted(3) == {
        "127.0.0.1:4": "pay.shop.svc",
        "127.0.0.1:1": "orders.shop.svc",
        "127.0.0.1:2": "orders.shop.svc",
    }
    assert scene.gauge(metrics.SERVER_STREAMS) == {("reading",): 0, ("failing",): 3, ("unread",): 1}
    assert scene.servers.wanted(0) == {}


def services_read(scene, most):
    return set(scene.servers.wanted(most).values())


def test_a_large_service_whose_name_comes_first_keeps_no_small_one_unread():
    scene = Scene(asking("a-huge", *range(100, 200)), *(asking(f"s{n}", n, n + 10) for n in (1, 2)))
    assert services_read(scene, 20) == {"s1.shop.svc", "s2.shop.svc"}


def test_a_namespace_of_many_small_services_keeps_no_other_s_unread():
    theirs = [asking(f"a{n}", n, namespace="crowd") for n in range(100, 200)]
    scene = Scene(*theirs, asking("orders", 1, 2, 3))
    assert "orders.shop.svc" in services_read(scene, 20)


def test_nothing_is_spent_on_a_service_of_which_nothing_could_be_said():
    scene = Scene(asking("orders", 1, 2, 3), asking("pay", 4, 5))
    assert services_read(scene, 4) == {"orders.shop.svc"}
    assert scene.gauge(metrics.SERVER_STREAMS)[("unread",)] == 2


def test_an_endpoint_that_comes_or_goes_changes_nobody_s_turn():
    scene = Scene(asking("orders", *range(100, 120)), asking("pay", *range(200, 220)))
    before = services_read(scene, 25)
    for ports in (range(100, 121), range(100, 119), range(100, 125)):
        scene.catalog.apply(Updated(asking("orders", *ports)))
        assert services_read(scene, 25) == before == {"orders.shop.svc"}


def test_where_reasons_are_not_told_an_open_port_looks_like_a_closed_one():
    scene = Scene(asking("orders", 1, 2, 3))
    scene.servers.tells_reasons = False
    scene.servers.lose("127.0.0.1:1", "unavailable")
    scene.servers.lose("127.0.0.1:2", "unimplemented")
    assert [s["state"] for s in scene.servers.view(ORDERS)] == ["failing"] * 3
    assert scene.gauge(metrics.SERVER_FAILURES) == {("failing",): 2}


def test_servers_words_decide_evenness_and_are_not_added_to_clients_reports():
    scene = Scene(asking("orders", 1, 2))
    client = Client(kind=ClientKind.ENVOY)
    load = Load(ORDERS, "z1", "127.0.0.1:1", 500, 0, 1, 10.0, clamped=False)
    scene.loads.take(client, [load])
    scene.say(p1=30.0, p2=10.0)
    (one,) = scene.loads.view()
    assert one["by"] == "servers"
    assert one["requests_per_second"] == pytest.approx(40.0)
    assert one["in_flight"] == 4
    assert (one["max_to_mean"], one["cv"]) == (1.5, 0.5)
    assert scene.gauge(metrics.LOAD_MAX_TO_MEAN) == {(ORDERS,): 1.5}
    assert scene.gauge(metrics.SERVER_REQUESTS)[ORDERS, "z1", "127.0.0.1:1"] == 30.0


def test_half_of_the_endpoints_are_too_few_to_speak_for_all():
    scene = Scene(asking("orders", 1, 2))
    scene.say(p1=30.0)
    (one,) = scene.loads.view()
    assert (one["by"], one["max_to_mean"]) == ("clients", None)
    assert [s["state"] for s in one["servers"]] == ["reading", "waiting"]
    assert scene.gauge(metrics.SERVER_REQUESTS) == {}


def test_an_idle_server_counts_in_the_mean():
    scene = Scene(asking("orders", 1, 2))
    scene.say(p1=30.0, p2=0.0)
    assert scene.loads.view()[0]["max_to_mean"] == 2.0


def test_what_is_old_lost_or_nobody_s_says_nothing():
    scene = Scene(asking("orders", 1, 2, 3))
    scene.say(p1=1.0, p2=1.0, p9=99.0)
    scene.servers.lose("127.0.0.1:2", "unavailable")
    assert [s["requests_per_second"] for s in scene.servers.view(ORDERS)] == [1.0, None, None]
    assert scene.counters.get(metrics.SERVER_FAILURES, "unavailable") == 1
    scene.now += scene.servers.fresh_s + 1
    assert scene.servers.view(ORDERS)[0]["requests_per_second"] is None
    scene.catalog.apply(Updated(snapshot("orders", 1, 2, 3)))
    scene.servers.wanted(100)
    assert scene.loads.view() == []
