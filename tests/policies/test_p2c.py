from random import Random

from trimtab.balancer import Node
from trimtab.model import Endpoint
from trimtab.policies.p2c import P2C
from trimtab.policies.weighted import AliasTable


def nodes(n, weights=None):
    return [
        Node(Endpoint(f"10.0.0.{i + 1}", 80, weight=weights[i] if weights else 1)) for i in range(n)
    ]


def test_of_two_endpoints_the_one_with_fewer_requests_in_flight_is_taken():
    policy, (a, b) = P2C(Random(1)), nodes(2)
    policy.update([a, b], 0.0)
    a.in_flight = 1
    assert all(policy.pick(0.0) is b for _ in range(100))


def test_the_busiest_of_all_is_never_taken():
    # Two distinct choices: the largest in-flight always loses.
    policy, many = P2C(Random(1)), nodes(5)
    policy.update(many, 0.0)
    for i, node in enumerate(many):
        node.in_flight = i
    assert many[4] not in [policy.pick(0.0) for _ in range(500)]


def test_every_pair_of_choices_is_as_likely_as_any_other():
    # With in-flight = index, the winner is the smaller index of the pair: P(i) = (n-1-i)/C(n,2).
    policy, many = P2C(Random(3)), nodes(6)
    policy.update(many, 0.0)
    for i, node in enumerate(many):
        node.in_flight = i
    n = 30_000
    counts = [0] * 6
    index = {id(node): i for i, node in enumerate(many)}
    for _ in range(n):
        counts[index[id(policy.pick(0.0))]] += 1
    for i, count in enumerate(counts):
        p = (5 - i) / 15
        assert abs(count - n * p) <= 5 * (n * p * (1 - p)) ** 0.5


def test_in_flight_is_levelled_in_proportion_to_weight():
    policy, (light, heavy) = P2C(Random(1)), nodes(2, [1, 3])
    policy.update([light, heavy], 0.0)
    for _ in range(400):  # requests that never end
        policy.pick(0.0).in_flight += 1
    assert abs(heavy.in_flight / light.in_flight - 3) < 0.1


def test_many_clients_with_few_requests_use_equal_endpoints_evenly():
    # 200 clients with 100 requests each, one at a time: ties only. Two random draws make max/mean 1.03,
    # with a chance of 3 % of more than 1.05.
    eight, counts = nodes(8), [0] * 8
    for client in range(200):
        policy = P2C(Random(client))
        policy.update(eight, 0.0)
        for _ in range(100):
            counts[eight.index(policy.pick(0.0))] += 1
    assert max(counts) / 2500 <= 1.015


def test_every_endpoint_is_first_once_in_a_round_whatever_their_number():
    for n in range(2, 40):
        policy, some = P2C(Random(n)), nodes(n)
        policy.update(some, 0.0)
        for _ in range(3):
            assert {id(policy.pick(0.0)) for _ in range(n)} == {id(node) for node in some}


def test_equal_endpoints_stay_within_five_percent_of_the_mean():
    # Design section 5: 8 equal endpoints, 20,000 requests, max/mean <= 1.05. Four are always in
    # flight, and end in the order in which they began.
    policy, eight = P2C(Random(11)), nodes(8)
    policy.update(eight, 0.0)
    flying, counts = [], dict.fromkeys(map(id, eight), 0)
    for _ in range(20_000):
        node = policy.pick(0.0)
        node.in_flight += 1
        counts[id(node)] += 1
        flying.append(node)
        if len(flying) > 4:
            flying.pop(0).in_flight -= 1
    assert max(counts.values()) / (20_000 / 8) <= 1.05


def test_an_alias_table_draws_in_proportion_to_extreme_weights():
    some = nodes(3, [1, 10, 1000])
    table, n = AliasTable(some, Random(5).random), 50_000
    counts = dict.fromkeys(map(id, some), 0)
    for _ in range(n):
        counts[id(table.draw())] += 1
    for node in some:
        p = node.endpoint.weight / 1011
        assert abs(counts[id(node)] - n * p) <= 5 * (n * p * (1 - p)) ** 0.5
