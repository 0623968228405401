"""Each promise of ``trimtab.testing.policy_contract`` finds the policy that breaks it, and only that promise."""

from random import Random

import pytest

from trimtab.testing import policy_contract as contract


class Fair:
    """Keeps every promise: by weight, at random."""

    def __init__(self, seed):
        self.random, self.nodes = Random(seed), []

    def update(self, nodes, now):
        self.nodes = list(nodes)

    def pick(self, now, key=None):
        return self.random.choices(self.nodes, [n.endpoint.weight for n in self.nodes])[0]

    def done(self, node, outcome, latency, now, report):
        pass


class RemembersTheGone(Fair):
    def update(self, nodes, now):
        if self.nodes and len(nodes) > 2:
            nodes = [*nodes, self.nodes[0]]
        super().update(nodes, now)


class KeepsTheLast(Fair):
    def update(self, nodes, now):
        if nodes and self.nodes and now == 2.0:
            nodes = self.nodes
        super().update(nodes or self.nodes, now)


class Starves(Fair):
    def update(self, nodes, now):
        super().update(nodes[:-1] if len(nodes) == 10 else nodes, now)


class Favours(Fair):
    def pick(self, now, key=None):
        picked = super().pick(now)
        return self.nodes[0] if len(self.nodes) == 8 and self.random.random() < 0.1 else picked


class BlindToWeights(Fair):
    def pick(self, now, key=None):
        return self.random.choice(self.nodes)


class TakesBack(Fair):
    def done(self, node, outcome, latency, now, report):
        self.nodes = [node]


class AmbientRandom(Fair):
    def __init__(self, seed):
        super().__init__(None)


BREACHES = {
    contract.picks_only_candidates: RemembersTheGone,
    contract.an_empty_update_is_taken: KeepsTheLast,
    contract.reaches_every_candidate: Starves,
    contract.is_even_over_equal_endpoints: Favours,
    contract.respects_weights_when_idle: BlindToWeights,
    contract.takes_the_end_of_an_attempt_on_a_node_that_left: TakesBack,
    contract.is_the_same_for_the_same_seed: AmbientRandom,
}


def test_every_promise_has_its_breach():
    assert set(BREACHES) == set(contract.PROMISES)


@pytest.mark.parametrize("promise", contract.PROMISES, ids=lambda f: f.__name__)
def test_a_policy_that_keeps_all_passes_and_one_that_breaks_it_is_found(promise):
    promise(Fair)
    with pytest.raises(AssertionError):
        promise(BREACHES[promise])
    if BREACHES[promise] is not AmbientRandom:  # whose other figures are another's each time
        for other in set(contract.PROMISES) - {promise}:
            other(BREACHES[promise])
