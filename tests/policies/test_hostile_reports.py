"""What a server may win by lying: whole clients in the simulator, one server of twenty lies."""

from random import Random

import pytest

from trimtab.load_report import LoadReport
from trimtab.model import PolicyConfig
from trimtab.sim.engine import Engine, endpoint
from trimtab.sim.server import Server
from trimtab.sim.service_time import exponential

SERVERS, CLIENTS, WORKERS, MEAN_S, SECONDS = 20, 100, 4, 0.01, 3.0


class LyingMeter:
    def __init__(self, meter, lie):
        self.begin, self.end = meter.begin, meter.end
        self.report = lambda: lie


@pytest.mark.parametrize("policy", ["token", "prequal", "p2c", "weighted_round_robin"])
@pytest.mark.parametrize(
    "lie",
    [
        LoadReport(in_flight=0, latency=1e-9),
        LoadReport(in_flight=0),
        LoadReport(application_utilization=1e-9, rps=1e9),
    ],
    ids=["nothing waits here", "no latency", "all rate and no load"],
)
def test_a_lie_attracts_less_than_twice_the_fair_share(policy, lie):
    random = Random(1)
    engine = Engine(
        draw=exponential(MEAN_S, Random(2)),
        random=random,
        delay=lambda _a, _b: 0.0001,
        warmup_s=0.5,
    )
    servers = [Server(endpoint(i), WORKERS) for i in range(SERVERS)]
    servers[0].meter = LyingMeter(servers[0].meter, lie)
    # Without its blackout of 10 s, in which nobody's word counts.
    params = {"blackout_s": 0.0, "update_s": 0.1} if policy == "weighted_round_robin" else {}
    chosen = PolicyConfig.of(policy, **params)
    clients = [engine.add_client("", chosen, Random(10 + i)) for i in range(CLIENTS)]
    engine.publish(servers, clients)
    rate = 0.7 * WORKERS * SERVERS / MEAN_S
    engine.open_loop(rate, SECONDS, lambda: clients[int(random.random() * CLIENTS)])
    engine.run()
    picks = engine.tally.picks
    fair = sum(picks.values()) / SERVERS
    # Who says nothing of use gets its share, too.
    assert fair / 10 < picks[servers[0].endpoint.address] < 2 * fair
