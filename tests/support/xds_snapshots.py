"""Random snapshots for Hypothesis."""

from hypothesis import strategies as st

from trimtab.model import (
    MAX_WEIGHT,
    Endpoint,
    Health,
    Locality,
    PolicyConfig,
    Repeatable,
    ServicePort,
    Snapshot,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LABEL = st.text("abcdefghij-0123", min_size=1, max_size=8)
IPS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ZONES = st.builds(
    Locality,
    st.sampled_from(["", "r1", "r2"]),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "x"]),
)
ENDPOINTS = st.builds(
    Endpoint,
    address=IPS,
    port=st.integers(1, 65535),
    locality=ZONES,
    node=TEXT,
    health=st.sampled_from(Health),
    weight=st.one_of(st.integers(1, 100), st.integers(1, MAX_WEIGHT)),
    priority=st.integers(0, 3),
    ready_since=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    labels=st.dictionaries(TEXT, TEXT, max_size=3).map(lambda d: tuple(sorted(d.items()))),
    additional_addresses=st.lists(IPS, max_size=2).map(tuple),
    uid=TEXT,
)
METHODS = st.sampled_from(["*", "GET", "/shop.Orders/", "/shop.Orders/Get", "/shop.Orders/List"])
REPEATABLE = st.builds(
    Repeatable,
    st.sets(METHODS, min_size=1).map(lambda found: tuple(sorted(found))),
    st.sets(st.sampled_from(["ABORTED", "INTERNAL", "UNAVAILABLE"]), min_size=1).map(
        lambda found: tuple(sorted(found))
    ),
    st.integers(2, 5),
    hedge_after_s=st.none() | st.floats(0, 60),
    budget=st.sampled_from([0.0, 0.2, 1.0]),
) | st.builds(Repeatable, st.just(("*",)), hedge_quantile=st.sampled_from([0.5, 0.95, 0.99]))
POLICIES = st.builds(
    PolicyConfig,
    st.one_of(st.sampled_from(["p2c", "round_robin", "random"]), TEXT.filter(bool)),
    st.dictionaries(
        TEXT,
        st.one_of(TEXT, st.booleans(), st.floats(allow_nan=False, allow_infinity=False)),
        max_size=3,
    ).map(lambda d: tuple(sorted(d.items()))),
)
SERVICES = st.builds(
    ServicePort,
    LABEL,
    LABEL,
    st.integers(1, 65535),
    st.sampled_from(["", "grpc", "grpc-web", "http"]),
    st.sampled_from(["", "grpc", "kubernetes.io/h2c", "http"]),
    repeatable=st.none() | REPEATABLE,
)


@st.composite
def snapshots(draw):
    service = draw(SERVICES)
    endpoints = draw(st.lists(ENDPOINTS, max_size=12, unique_by=lambda e: e.key))
    return Snapshot(
        service.cluster,
        tuple(endpoints),
        draw(st.none() | POLICIES),
        draw(st.sampled_from([None, service])),
    )
