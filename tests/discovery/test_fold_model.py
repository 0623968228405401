"""Whatever the order, splits, moves and duplicates: the fold ends where a simple model does."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kube import Folded, endpoint, endpoint_slice, service
from machine_settings import machine_settings
from trimtab.discovery.kube_objects import EndpointSlice, Service, decode
from trimtab.discovery.slice_reading import health
from trimtab.model import Health, Snapshot

ORDER = {Health.UNHEALTHY: 0, Health.DRAINING: 1, Health.READY: 2}


def modelled(documents):
    """The clusters of these objects, computed the plain way: everything anew, no state."""
    objects = [decode(document) for document in documents]
    slices = [o for o in objects if isinstance(o, EndpointSlice)]
    clusters = {}
    for one in (o for o in objects if isinstance(o, Service)):
        own = [
            s for s in slices if s.metadata.label("kubernetes.io/service-name") == one.metadata.name
        ]
        first = (one.spec.ipFamilies or ["IPv4"])[0]
        for port in one.spec.ports:
            claims = {}
            for kept in own:
                for at in (p for p in kept.ports if p.name == port.name):
                    for e in kept.endpoints:
                        state = health(
                            e.conditions, publish_not_ready=one.spec.publishNotReadyAddresses
                        )
                        stamp = kept.metadata.annotation(
                            "endpoints.kubernetes.io/last-change-trigger-time"
                        )
                        claims.setdefault((e.addresses[0], at.port), []).append(
                            ((ORDER[state], stamp, kept.metadata.name), e.targetRef.uid, state)
                        )
            best = {key: max(found) for key, found in claims.items()}
            pods = {}
            for (address, number), (_, uid, state) in best.items():
                pods.setdefault((uid, number), []).append((address, state))
            found = set()
            for (uid, number), members in pods.items():
                families = [":" in address for address, _ in members]
                if len(members) == 2 and len(set(families)) == 2:
                    members.sort(key=lambda m: (":" in m[0]) != (first == "IPv6"))
                    (lead, state), (other, _) = members
                    found.add((lead, number, uid, state, (other,)))
                else:
                    found.update((a, number, uid, state, ()) for a, state in members)
            clusters[f"{one.metadata.name}.shop:{port.port}"] = found
    return clusters


def plain(clusters):
    return {
        name: {(e.address, e.port, e.uid, e.health, e.additional_addresses) for e in s.endpoints}
        for name, s in clusters.items()
    }


NAMES = st.sampled_from(["orders", "carts"])
UIDS = st.sampled_from(["u1", "u2", "u3"])
FLAGS = st.sampled_from([None, True, False])
PORTS = st.lists(
    st.tuples(st.sampled_from(["grpc", "http"]), st.integers(9000, 9001)),
    max_size=2,
    unique_by=lambda p: p[0],
)
SERVICES = st.builds(
    lambda name, ports, families, publish: service(
        name, ports=ports, ipFamilies=families, publishNotReadyAddresses=publish
    ),
    NAMES,
    st.lists(
        st.tuples(st.sampled_from(["grpc", "http"]), st.sampled_from([80, 81])),
        max_size=2,
        unique_by=(lambda p: p[0], lambda p: p[1]),
    ),
    st.sampled_from([["IPv4"], ["IPv6", "IPv4"]]),
    st.booleans(),
)


@st.composite
def any_slice(draw):
    six = draw(st.booleans())
    stem = "2001:db8::" if six else "10.0.0."
    found = draw(st.lists(st.tuples(st.integers(1, 4), UIDS, FLAGS, FLAGS, FLAGS), max_size=4))
    return endpoint_slice(
        draw(st.sampled_from(["a", "b", "c", "d"])),
        *(
            endpoint(f"{stem}{n}", uid=uid, ready=ready, serving=serving, terminating=terminating)
            for n, uid, ready, serving, terminating in {f[0]: f for f in found}.values()
        ),
        of=draw(NAMES),
        ports=draw(PORTS),
        stamp=f"2026-01-01T00:00:0{draw(st.integers(0, 3))}Z",
        addressType="IPv6" if six else "IPv4",
    )


class FoldMachine(RuleBasedStateMachine):
    """Objects come, change and go in any order."""

    def __init__(self):
        super().__init__()
        self.folded = Folded()
        self.objects = {}
        self.before = {}

    @rule(document=SERVICES | any_slice())
    def applied(self, document):
        self.before = dict(self.folded.clusters)
        self.objects[document["kind"], document["metadata"]["name"]] = document
        self.folded.add(document)

    @rule(document=SERVICES | any_slice())
    def deleted(self, document):
        self.before = dict(self.folded.clusters)
        self.objects.pop((document["kind"], document["metadata"]["name"]), None)
        self.folded.delete(document)

    @invariant()
    def ends_where_the_model_does(self):
        assert plain(self.folded.clusters) == modelled(self.objects.values())

    @invariant()
    def tells_only_what_changed(self):
        for event in self.folded.events:
            if hasattr(event, "snapshot"):
                assert self.before.get(event.snapshot.cluster) != event.snapshot

    @invariant()
    def makes_snapshots_that_pass_the_checks(self):
        for found in self.folded.clusters.values():
            again = Snapshot(found.cluster, found.endpoints, found.policy, found.service)
            assert found.endpoints == again.endpoints
        assert {s.cluster: s for s in self.folded.fold.clusters()} == self.folded.clusters


TestFold = FoldMachine.TestCase
TestFold.settings = machine_settings(150)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=40, unique=True),
    st.lists(st.integers(0, 5), min_size=40, max_size=40),
    st.randoms(use_true_random=False),
)
def test_how_endpoints_are_split_over_slices_does_not_matter(numbers, split, random):
    slices = [
        endpoint_slice(f"s{i}", *(f"10.0.0.{n}" for n in numbers if split[n - 1] in (i, i + 1)))
        for i in range(6)
    ]
    documents = [service(), *slices]
    random.shuffle(documents)
    whole = Folded(service(), endpoint_slice("all", *(f"10.0.0.{n}" for n in numbers)))
    assert Folded(*documents).clusters == whole.clusters


@given(st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_a_large_change_and_many_small_ones_end_alike(random):
    numbers = list(range(1, 200))
    random.shuffle(numbers)
    small = Folded(service(), *(endpoint_slice(f"s{n}", f"10.0.0.{n}") for n in numbers))
    for n in numbers[:50]:
        small.delete(endpoint_slice(f"s{n}"))
    large = Folded(service(), endpoint_slice("all", *(f"10.0.0.{n}" for n in numbers[50:])))
    assert small.clusters == large.clusters


def test_one_endpoint_of_many_changes_its_state_in_its_place():
    many = [endpoint_slice(f"s{n}", *(f"10.0.{n}.{i}" for i in range(50))) for n in range(4)]
    folded = Folded(service(), *many)
    changed = [endpoint(f"10.0.2.{i}", ready=i != 7) for i in range(50)]
    folded.add(endpoint_slice("s2", *changed))
    assert folded.targets(health=Health.UNHEALTHY) == ["10.0.2.7:50051"]
    assert len(folded.ready()) == 199
    assert folded.clusters == Folded(service(), *many, endpoint_slice("s2", *changed)).clusters
    assert len(folded.add(many[2]).ready()) == 200
