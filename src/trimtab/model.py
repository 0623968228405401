"""The values that cross rooms: endpoints, snapshots and what a source says of them.

All are frozen. One ``Snapshot`` type serves discovery, the control plane, both ends of xDS, the
client and the tests. A *cluster* is one port of one Service, named ``SERVICE.NAMESPACE:PORT``.
"""

from __future__ import annotations

import enum
import hashlib
import math
import numbers
import operator
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import SupportsFloat, SupportsIndex, TypeGuard, cast

from trimtab.errors import ConfigError

MAX_WEIGHT = 2**32 - 1  # EDS carries weights as uint32 (endpoint.proto, load_balancing_weight)


class Health(enum.Enum):
    """Whether an endpoint may get requests.

    From EndpointSlice conditions (discovery.k8s.io/v1): ``ready`` → READY; ``serving`` and
    ``terminating`` → DRAINING; else UNHEALTHY.
    """

    READY = "ready"
    DRAINING = "draining"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, order=True)
class Locality:
    """Where an endpoint runs. Empty strings mean unknown."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pod's port.

    Attributes:
        address: the primary IP literal, without brackets.
        port: 1 to 65535.
        locality: region and zone of its node.
        node: the node's name, "" if unknown.
        health: see ``Health``.
        weight: relative capacity, 1 to 2**32-1.
        priority: 0 is used first; a higher number only while no lower one has a usable endpoint.
        ready_since: when its container started, Unix seconds; None if unknown.
        labels: the pod labels that were asked for, sorted by key.
        additional_addresses: further IP literals of the same pod (dual stack).
        uid: the pod's UID, "" if unknown; a new UID at the same address is another pod.
    """

    address: str
    port: int
    locality: Locality = Locality()
    node: str = ""
    health: Health = Health.READY
    weight: int = 1
    priority: int = 0
    ready_since: float | None = None
    labels: tuple[tuple[str, str], ...] = ()
    additional_addresses: tuple[str, ...] = ()
    uid: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.address, str) or not self.address:
            raise ConfigError(
                f"endpoint: address {self.address!r} is empty or no text; "
                "give an IP address or a host name"
            )
        if type(self.port) is not int or not 1 <= self.port <= 65535:  # noqa: PLR2004
            raise ConfigError(
                f"endpoint {self.address}: port {self.port!r} is not a whole number from 1 to 65535"
            )
        if type(self.locality) is not Locality:
            raise ConfigError(
                f"endpoint {self.target}: locality {self.locality!r} is no Locality, such as "
                "Locality(zone='a')"
            )
        if not _are_pairs(self.labels):
            raise ConfigError(
                f"endpoint {self.target}: labels {self.labels!r} are no tuple of pairs, such as "
                "(('shard', '7'),)"
            )
        if type(self.health) is not Health:
            raise ConfigError(
                f"endpoint {self.target}: health {self.health!r} is none of Health.READY, "
                "Health.DRAINING and Health.UNHEALTHY"
            )
        if (
            isinstance(self.weight, bool)
            or not isinstance(self.weight, int)
            or not 1 <= self.weight <= MAX_WEIGHT
        ):
            raise ConfigError(
                f"endpoint {self.target}: weight {self.weight!r} is not a whole number "
                f"from 1 to {MAX_WEIGHT}"
            )
        if type(self.priority) is not int or self.priority < 0:
            raise ConfigError(
                f"endpoint {self.target}: priority {self.priority!r} is not a whole number from 0"
            )
        if self.ready_since is not None and not (
            is_number(self.ready_since) and math.isfinite(self.ready_since)
        ):
            raise ConfigError(
                f"endpoint {self.target}: ready_since {self.ready_since!r} is no finite number of "
                "Unix seconds, or None"
            )

    @property
    def target(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return host_port(self.address, self.port)

    @property
    def key(self) -> tuple[str, int]:
        """What no two endpoints of one snapshot share."""
        return (self.address, self.port)


def _are_pairs(given: object) -> bool:
    return isinstance(given, Collection) and all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)  # noqa: PLR2004
        for pair in given
    )


def is_number(value: object) -> TypeGuard[float]:
    """Whether an argument is a real number, NumPy's and fractions too; True and False are none.

    Who keeps it makes a ``float`` of it, which is all that timers take; what no float can hold is none.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def whole(value: object) -> int | None:
    """An argument that is to be a whole number, NumPy's too; None: it is none, True and False included."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(cast("SupportsIndex", value))
    except TypeError:
        return None


def host_port(address: str, port: int) -> str:
    """Join an IP literal or host name and a port as gRPC and URLs write it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """A policy by name, with its parameters as frozen scalars, sorted by key.

    ``xds`` carries it unread; ``policies.build`` validates it.
    """

    name: str = "token"
    params: tuple[tuple[str, str | float | bool], ...] = ()

    @classmethod
    def of(cls, name: str, **params: str | float | bool) -> PolicyConfig:
        """A configuration from keyword arguments; numbers become floats.

        Raises:
            ConfigError: one is neither text nor number nor truth value.
        """
        for key, value in params.items():
            if not isinstance(value, str | SupportsFloat):  # NumPy's numbers too
                raise ConfigError(
                    f"policy {name}: parameter {key}={value!r} is neither text, number nor truth value"
                )
        return cls(
            name,
            tuple(
                sorted((k, v if isinstance(v, str | bool) else float(v)) for k, v in params.items())
            ),
        )

    def __post_init__(self) -> None:
        if not _are_pairs(self.params):
            raise ConfigError(
                f"policy {self.name}: params={self.params!r} are no pairs; write "
                f"PolicyConfig.of({self.name!r}, name=value)"
            )


@dataclass(frozen=True, slots=True)
class Repeatable:
    """What a Service's owner says of further attempts: which methods are safe to run more than once.

    Attributes:
        methods: ``/package.Service/Method``, ``/package.Service/`` for all of a gRPC service, an HTTP
            method such as ``GET``, or ``*``; sorted.
        on: the gRPC statuses after which another attempt may follow, by name; sorted.
        attempts: the most, the first included, 2 to 5.
        hedge_after_s: when the next attempt leaves although no answer came [s]; None: it waits.
        hedge_quantile: the same, at this part of the latencies seen lately, 0 to 1.
        budget: further attempts as a part of a client's requests, 0 to 1.
    """

    methods: tuple[str, ...]
    on: tuple[str, ...] = ("UNAVAILABLE",)
    attempts: int = 3
    hedge_after_s: float | None = None
    hedge_quantile: float | None = None
    budget: float = 0.2


@dataclass(frozen=True, slots=True)
class ServicePort:
    """The Service port behind a cluster, as Kubernetes names it.

    Attributes:
        service: the Service's name.
        namespace: its namespace.
        port: the Service port's number (not the pods').
        port_name: the Service port's name, "" if it has none.
        app_protocol: ``appProtocol``, "" if unset (``grpc`` and ``kubernetes.io/h2c`` mean HTTP/2).
        exported_to: the namespaces whose clients may know of it besides its own; ``*`` is all.
            The control plane's affair: clients are not told.
        out_of_band: whether its endpoints offer load reports as a stream, to be read by the control
            plane. Its affair likewise.
        repeatable: which of its methods may run more than once; None: its owner does not say.
    """

    service: str
    namespace: str
    port: int
    port_name: str = ""
    app_protocol: str = ""
    exported_to: tuple[str, ...] = ()
    out_of_band: bool = field(default=False, repr=False)  # no part of a snapshot's version
    repeatable: Repeatable | None = None

    @property
    def cluster(self) -> str:
        """The canonical cluster name, ``SERVICE.NAMESPACE:PORT``."""
        return f"{self.service}.{self.namespace}:{self.port}"


@dataclass(frozen=True, slots=True)
class ZoneSplit:
    """What a control plane says to one client of zones (docs/architecture.md, "Zones").

    Attributes:
        client_zone: where it takes the client to be; "" if it doesn't say.
        base: the part of this client's requests that goes to each server zone before latency moves
            it, 0 to 1, sorted by zone; empty if it doesn't say.
    """

    client_zone: str = ""
    base: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All endpoints of one cluster at one moment, sorted, no two with the same address and port.

    Attributes:
        cluster: the cluster's name (canonical where trimtab's control plane made it).
        endpoints: sorted by address and port.
        policy: which strategy picks; None leaves it to the client.
        service: the Service port, where known.
        zones: what a client was told of zones: of its view, so no part of the content's version.
        seat: which client of how many this one is, from 0, for subsets; likewise.
    """

    cluster: str
    endpoints: tuple[Endpoint, ...] = ()
    policy: PolicyConfig | None = None
    service: ServicePort | None = None
    zones: ZoneSplit | None = None
    seat: tuple[int, int] | None = None
    _version: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.endpoints, key=lambda e: e.key))
        for left, right in pairwise(ordered):
            if left.key == right.key:
                raise ConfigError(
                    f"cluster {self.cluster}: endpoint {left.target} appears twice; "
                    "endpoints are unique by address and port"
                )
        object.__setattr__(self, "endpoints", ordered)

    @classmethod
    def presorted(
        cls,
        cluster: str,
        endpoints: tuple[Endpoint, ...],
        policy: PolicyConfig | None = None,
        service: ServicePort | None = None,
        zones: ZoneSplit | None = None,
    ) -> Snapshot:
        """A snapshot of endpoints that are sorted by key already, no key twice; nothing is checked.

        For a maker that keeps them so: checking 10,000 costs several milliseconds.
        """
        self = object.__new__(cls)
        for name, value in (
            ("cluster", cluster),
            ("endpoints", endpoints),
            ("policy", policy),
            ("service", service),
            ("zones", zones),
            ("seat", None),
            ("_version", []),
        ):
            object.__setattr__(self, name, value)
        return self

    @property
    def version(self) -> str:
        """A content hash: equal snapshots have equal versions in every process."""
        if not self._version:
            text = repr((self.cluster, self.endpoints, self.policy, self.service))
            self._version.append(hashlib.blake2b(text.encode(), digest_size=8).hexdigest())
        return self._version[0]

    def usable(self) -> tuple[Endpoint, ...]:
        """The endpoints that may get new requests.

        The READY ones of the first priority that has any. Where none is READY, the DRAINING ones:
        kube-proxy does the same (KEP-1669), since a pod that is still serving beats none.
        """
        for health in (Health.READY, Health.DRAINING):
            fit = [e for e in self.endpoints if e.health is health]
            if fit:
                first = min(e.priority for e in fit)
                return tuple(e for e in fit if e.priority == first)
        return ()

    def counts(self) -> Mapping[Health, int]:
        """How many endpoints are in each state."""
        found = dict.fromkeys(Health, 0)
        for endpoint in self.endpoints:
            found[endpoint.health] += 1
        return found

    def __repr__(self) -> str:
        states = ", ".join(f"{n} {h.value}" for h, n in self.counts().items() if n) or "empty"
        return f"<Snapshot {self.cluster}: {states} | {self.version}>"


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between two snapshots of a cluster."""

    added: tuple[Endpoint, ...]
    removed: tuple[Endpoint, ...]
    changed: tuple[Endpoint, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def diff(old: Iterable[Endpoint], new: Iterable[Endpoint]) -> Diff:
    """Compare two endpoint lists by address and port.

    A pod that came back at the same address under a new UID counts as removed and added, so that
    nothing which was learnt of the old pod is held against the new one.
    """
    before = {e.key: e for e in old}
    after = {e.key: e for e in new}
    added: list[Endpoint] = []
    removed: list[Endpoint] = []
    changed: list[Endpoint] = []
    for key, endpoint in after.items():
        previous = before.get(key)
        if previous is None:
            added.append(endpoint)
        elif is_other_pod(previous, endpoint):
            removed.append(previous)
            added.append(endpoint)
        elif previous != endpoint:
            changed.append(endpoint)
    removed.extend(e for key, e in before.items() if key not in after)
    return Diff(tuple(added), tuple(removed), tuple(changed))


def is_other_pod(old: Endpoint, new: Endpoint) -> bool:
    """Whether two endpoints at one address are different pods, as far as their UIDs tell."""
    return bool(old.uid and new.uid and old.uid != new.uid)


@dataclass(frozen=True, slots=True)
class Updated:
    """A source says: this is now the whole state of that cluster.

    Attributes:
        snapshot: the state.
        since: when what changed it happened at its origin [s, loop time]; None: the source can't
            tell. Says nothing of the state, so it does not count when events are compared.
    """

    snapshot: Snapshot
    since: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Removed:
    """A source says: that cluster no longer exists (its Service or port was deleted)."""

    cluster: str


@dataclass(frozen=True, slots=True)
class Synced:
    """A source says: everything that existed when I began has been delivered.

    Until then a cluster that was not mentioned is *unknown*, which is not *empty*.
    """


@dataclass(frozen=True, slots=True)
class Problem:
    """One rejected part of the input, which left the last good state in place.

    Attributes:
        where: the object, such as ``EndpointSlice shop/orders-abc`` or ``pods.yaml:12``.
        field: the field's path, "" for the whole object.
        value: the bad value as text, shortened.
        fix: what would make it good.
    """

    where: str
    field: str
    value: str
    fix: str

    def __str__(self) -> str:
        place = f"{self.where}: {self.field}" if self.field else self.where
        return ": ".join(filter(None, (place, self.value, self.fix)))


SourceEvent = Updated | Removed | Synced
