"""Random fleets with random configurations, by seed: whole services as the control plane has them.

The rare is drawn often: one endpoint, up to a thousand of them, none that is ready, gaps between priorities, weights whose
sum doesn't fit into 32 bits, localities without a name, parameters at the ends of their ranges.
All addresses are ones at which nobody listens (loopback) or that lead nowhere (documentation).
"""

from random import Random

from trimtab.model import (
    MAX_WEIGHT,
    Endpoint,
    Health,
    Locality,
    PolicyConfig,
    ServicePort,
    Snapshot,
)

POLICIES = (
    "p2c",
    "p2c_ewma",
    "prequal",
    "random",
    "ring_hash",
    "round_robin",
    "token",
    "weighted_round_robin",
    "somebody-elses",
)
HEALTH = (Health.READY,) * 6 + (Health.DRAINING, Health.UNHEALTHY)
PROTOCOLS = ("", "grpc", "http", "kubernetes.io/h2c")
NOBODY_S_PORT = 9  # "discard"
LARGE = 0.01


def fleet(seed):
    """The snapshot of ``fleet-SEED.shop:8080``."""
    random = Random(seed)
    service = ServicePort(
        f"fleet-{seed}", "shop", 8080, random.choice(("", "grpc", "http")), random.choice(PROTOCOLS)
    )
    size = random.choice((0, 1, 2, 3, random.randrange(4, 20), random.randrange(20, 60)))
    if random.random() < LARGE:
        size = random.randrange(200, 1001)
    localities = [_locality(random) for _ in range(random.randrange(1, 5))]
    healths = random.choice((HEALTH, (Health.READY,), (Health.DRAINING, Health.UNHEALTHY)))
    priorities = random.choice(((0,), (0, 1), (0, 3, 7), (2,)))
    weights = random.choice(((1,), (1, 2, 100), (1, MAX_WEIGHT), (MAX_WEIGHT,)))
    found = {}
    for _ in range(size):
        endpoint = Endpoint(
            _address(random),
            random.choice((NOBODY_S_PORT, NOBODY_S_PORT + 1)),
            random.choice(localities),
            node=random.choice(("", "node-1", "nœud")),
            health=random.choice(healths),
            weight=random.choice(weights),
            priority=random.choice(priorities),
            ready_since=random.choice((None, 0.0, 1.7e9)),
            labels=random.choice(((), (("model", "large"), ("shard", "é")))),
            additional_addresses=random.choice(
                ((), (), (f"2001:db8::{random.randrange(1, 99):x}",))
            ),
            uid=random.choice(("", f"uid-{random.random()}")),
        )
        found[endpoint.key] = endpoint
    return Snapshot(service.cluster, tuple(found.values()), _policy(random), service)


def front(seed):
    """Some client Service, ``front.shop:8080``: by its pods the fleets are split over zones."""
    random = Random(f"front {seed}")
    endpoints = [
        Endpoint(f"127.0.{place}.{n + 1}", NOBODY_S_PORT, Locality("r1", zone))
        for place, zone in enumerate(("a", "b", "c", ""))
        for n in range(random.randrange(zone != "", 30))
    ]
    service = ServicePort("front", "shop", 8080)
    return Snapshot(service.cluster, tuple(endpoints), None, service)


def _address(random):
    if random.random() < 0.1:
        return f"2001:db8::{random.randrange(1, 65536):x}"
    return f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def _locality(random):
    return Locality(
        random.choice(("", "r1", "r2")),
        random.choice(("", "a", "b", "c")),
        random.choice(("", "", "rack-1")),
    )


def _policy(random):
    if random.random() < 0.1:
        return None
    name = random.choice(POLICIES)
    ranges = {
        "slow_start_s": (0.0, 0.001, 10.0, 3600.0),
        "zone": ("prefer", "strict", "off"),
        "eject": (True, False),
        "eject_s": (0.001, 10.0, 3600.0),
        "judges": (True, False),
        "max_requests": (1.0, 1000.0, float(MAX_WEIGHT)),
        "subset_size": (1.0, 99999.0),
    }
    if name == "ring_hash":
        ranges |= {"hash_key": ("x-user", "a.b_c-1"), "hash_table": ("ring", "maglev")}
    if name == "weighted_round_robin":
        ranges |= {
            "blackout_s": (0.0, 10.0, 3600.0),
            "expiry_s": (1.0, 180.0, 86400.0),
            "update_s": (0.01, 1.0, 3600.0),
            "error_penalty": (0.0, 1.0, 1000.0),
        }
    chosen = random.sample(sorted(ranges), random.randrange(len(ranges) + 1))
    return PolicyConfig.of(name, **{key: random.choice(ranges[key]) for key in chosen})
