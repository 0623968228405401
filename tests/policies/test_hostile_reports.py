"""What a server may win by lying: whole clients in the simulator, one of their servers lies."""

from random import Random

import pytest

from trimtab.load_report import LoadReport
from trimtab.model import PolicyConfig
from trimtab.sim.engine import Engine, endpoint
from trimtab.sim.server import Server
from trimtab.sim.service_time import exponential

WORKERS, MEAN_S, WARMUP_S = 4, 0.01, 0.5
PICKS = 6_000  # of a run at most; the fair share of one of 20 is 300, with a sd of 6 %
IDLE = LoadReport(in_flight=0, latency=1e-9)
FLEETS = [(n, clients) for n in (3, 8, 20) for clients in (4, 20, 100, 400)]


class LyingMeter:
    def __init__(self, meter, lie):
        self.begin, self.end = meter.begin, meter.end
        self.report = lambda: lie


class Fleet:
    def __init__(self, policy, n, clients, lie, slow=1.0, seed=1):
        self.random = Random(seed)
        self.engine = Engine(
            draw=exponential(MEAN_S, Random(2)),
            random=self.random,
            delay=lambda _a, _b: 0.0001,
            warmup_s=WARMUP_S,
        )
        self.servers = [Server(endpoint(i), WORKERS) for i in range(n)]
        self.liar = self.servers[0]
        self.liar.slow = slow
        self.liar.meter = LyingMeter(self.liar.meter, lie)
        # Without weighted_round_robin's blackout of 10 s, in which nobody's word counts.
        params = {"blackout_s": 0.0, "update_s": 0.1} if policy == "weighted_round_robin" else {}
        chosen = PolicyConfig.of(policy, **params)
        self.clients = [
            self.engine.add_client("", chosen, Random(f"{seed} {i}")) for i in range(clients)
        ]
        self.engine.publish(self.servers, self.clients)

    def share(self, rho, most_s=3.0, picks=PICKS):
        """The liar's part of all picks, in fair shares."""
        rate = rho * WORKERS * len(self.servers) / MEAN_S
        clients, random = self.clients, self.random
        self.engine.open_loop(
            rate,
            min(most_s, WARMUP_S + picks / rate),
            lambda: clients[int(random.random() * len(clients))],
        )
        return self._counted()

    def share_one_at_a_time(self, seconds):
        """The same, each client calling again when its answer is there."""
        for client in self.clients:
            self.engine.closed_loop(client, 1, lambda: 0.0, seconds)
        return self._counted()

    def _counted(self):
        self.engine.run()
        picks = self.engine.tally.picks
        return picks[self.liar.endpoint.address] * len(self.servers) / sum(picks.values())


@pytest.mark.parametrize("rho", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(("n", "clients"), FLEETS)
def test_saying_that_one_is_idle_is_worth_less_than_another_fair_share(n, clients, rho):
    assert Fleet("token", n, clients, IDLE).share(rho) < 2


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("rho", [0.1, 0.5])
@pytest.mark.parametrize("n", [60, 100])
def test_nor_is_it_in_a_large_fleet(n, rho, seed):
    # The fair share of one of 100 is 240 picks, with a sd of 6 % as above.
    assert Fleet("token", n, 2, IDLE, seed=seed).share(rho, 100.0, picks=24_000) < 2


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("n", "clients", "rho"), [(5, 20, 0.1), (5, 200, 0.6), (8, 200, 0.3), (9, 100, 0.1)]
)
@pytest.mark.parametrize("slow", [1.0, 3.0], ids=["all quick", "others slow"])
def test_nor_is_it_for_clients_that_have_just_begun(n, clients, rho, slow, seed):
    fleet = Fleet("token", n, clients, IDLE, seed=seed)
    for server in fleet.servers[1 + n // 2 :]:
        server.slow = slow
    assert fleet.share(rho, picks=400 * n) < 2


@pytest.mark.parametrize("policy", ["token", "prequal"])
@pytest.mark.parametrize("lie", [IDLE, LoadReport(in_flight=0, latency=0.005)], ids=["0", "5 ms"])
@pytest.mark.parametrize("slow", [1.0, 5.0], ids=["quick", "slow"])
@pytest.mark.parametrize("n", [3, 8, 20])
def test_nor_is_it_where_one_client_makes_one_call_at_a_time(n, slow, lie, policy):
    assert Fleet(policy, n, 1, lie, slow).share_one_at_a_time(10.0) < 2


@pytest.mark.parametrize("policy", ["token", "prequal"])
@pytest.mark.parametrize(("n", "clients", "rho"), [(20, 100, 0.1), (8, 20, 0.1), (20, 20, 0.3)])
def test_nor_is_it_for_a_server_that_is_slow(n, clients, rho, policy):
    assert Fleet(policy, n, clients, IDLE, slow=5.0).share(rho) < 2


@pytest.mark.parametrize(
    ("n", "clients", "rho", "seconds"),
    [(20, 100, 0.1, 3), (20, 400, 0.3, 3), (8, 100, 0.3, 3), (3, 20, 0.3, 3)],
)
def test_probes_are_believed_as_little(n, clients, rho, seconds):
    assert Fleet("prequal", n, clients, IDLE).share(rho, seconds) < 2


@pytest.mark.parametrize("seconds", [1, 5, 30])
def test_it_holds_from_the_first_seconds_on_and_later(seconds):
    assert Fleet("token", 20, 100, IDLE, seed=3).share(0.1, seconds) < 2


@pytest.mark.parametrize("rho", [0.1, 0.7])
def test_all_rate_and_no_load_makes_no_weight_above_twice_the_mean(rho):
    lie = LoadReport(application_utilization=1e-9, rps=1e9)
    assert Fleet("weighted_round_robin", 20, 100, lie).share(rho) < 2


@pytest.mark.parametrize("policy", ["token", "prequal"])
def test_one_who_says_nothing_of_use_gets_a_part_too(policy):
    assert Fleet(policy, 20, 100, LoadReport(application_utilization=0.5)).share(0.7, 1.0) > 0.1
