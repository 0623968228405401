"""One EndpointSlice, read: what it says of which address at which port. Pure.

Conditions (discovery.k8s.io/v1 types.go): ``ready`` nil is true, ``serving`` nil is true,
``terminating`` nil is false. ``publishNotReadyAddresses`` overrules readiness, not termination: a
pod that is going away gets nothing new from us while there is another.

A slice comes whole with every change of one of its endpoints. What is as in the slice before is
taken from there: that is cheaper, and the memory of what stays is not torn apart by what goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from trimtab.discovery import ReportProblem
from trimtab.discovery.addresses import FAMILIES, AddressRules, endpoint_address
from trimtab.discovery.kube_objects import (
    CHANGED_ANNOTATION,
    SERVICE_LABEL,
    Conditions,
    EndpointSlice,
    Metadata,
    SliceEndpoint,
    describe,
    short,
)
from trimtab.discovery.merging import Claim
from trimtab.discovery.merging import Key as Address
from trimtab.model import Endpoint, Health, Locality, Problem

Key = tuple[str, str]  # namespace, name
_ReadEndpoint = tuple[str, Locality, SliceEndpoint]
MAX_PORT = 65535
NO_CLAIMS: Mapping[Address, Claim] = {}
_NO_CONDITIONS = Conditions()
_HEALTH_RANK = {Health.UNHEALTHY: 0, Health.DRAINING: 1, Health.READY: 2}
_API_SERVICE = ("default", "kubernetes")
_MAX_LOCALITIES = 1000  # that are shared; whoever may write slices may write any zone


class Slice:
    """A slice, read once; its claims are made once per port.

    Attributes:
        key: the slice's.
        service: the Service's whose it is.
        family: 4 or 6.
        ports: numbers by name.
    """

    __slots__ = ("_claims", "_endpoints", "_stamp", "family", "key", "ports", "service")

    def __init__(self, key: Key, service: Key, family: int, stamp: float) -> None:
        self.key = key
        self.service = service
        self.family = family
        self.ports: dict[str, int] = {}
        self._stamp = stamp
        self._endpoints: list[_ReadEndpoint] = []
        self._claims: dict[tuple[int, bool], Mapping[Address, Claim]] = {}

    def add(self, endpoint: _ReadEndpoint) -> None:
        """Put in one of its endpoints, before any claim is asked for."""
        self._endpoints.append(endpoint)

    def __len__(self) -> int:
        return len(self._endpoints)

    def by_text(self) -> dict[str, _ReadEndpoint]:
        """Its endpoints by their addresses as the slice spells them."""
        return {e[2].addresses[0]: e for e in self._endpoints if e[2].addresses}

    def claims(
        self,
        port_name: str,
        *,
        publish_not_ready: bool,
        before: Mapping[Address, Claim] = NO_CLAIMS,
    ) -> Mapping[Address, Claim]:
        """What it says of each address at the port of that name.

        Args:
            port_name: a Service port's name.
            publish_not_ready: what the Service says of that.
            before: the claims of the slice that this one replaces, whose endpoints are used again
                where they are the same: to make one costs more than all the rest.
        """
        port = self.ports.get(port_name)
        if port is None:
            return NO_CLAIMS
        found = self._claims.get((port, publish_not_ready))
        if found is None:
            found = self._made(port, publish_not_ready, before)
            self._claims[port, publish_not_ready] = found
        return found

    def _made(
        self, port: int, publish_not_ready: bool, before: Mapping[Address, Claim]
    ) -> Mapping[Address, Claim]:
        found: dict[Address, Claim] = {}
        for address, locality, source in self._endpoints:
            state = health(source.conditions or _NO_CONDITIONS, publish_not_ready=publish_not_ready)
            rank = (_HEALTH_RANK[state], self._stamp, self.key[1])
            key = (address, port)
            known = found.get(key)
            if known is not None and rank <= known[0]:
                continue
            uid = (source.targetRef.uid if source.targetRef else None) or ""
            node = source.nodeName or ""
            same = before.get(key)
            if same is not None:
                was = same[1]  # equal in all that is set below, so the very same value
                if (was.health, was.uid, was.node, was.locality) == (state, uid, node, locality):
                    found[key] = same if same[0] == rank else (rank, was)
                    continue
            found[key] = (rank, Endpoint(address, port, locality, node, state, uid=uid))
        return found


class SliceReader:
    """Reads slices.

    Args:
        report: hears of every rejected part.
        rules: which addresses may be endpoints.
        region: put into each endpoint's locality.
    """

    def __init__(self, report: ReportProblem, rules: AddressRules, region: str) -> None:
        self._report = report
        self._rules = rules
        self._region = region
        self._localities: dict[str, Locality] = {}

    def read(self, key: Key, obj: EndpointSlice, before: Slice | None) -> Slice | None:
        """A slice, None if it is of no use.

        Args:
            key: the slice's.
            obj: the slice.
            before: what was read of it before.
        """
        where = describe("EndpointSlice", obj.metadata)
        service = obj.metadata.label(SERVICE_LABEL)
        if not service:
            return None  # a slice of nobody's: legal, and of no use here
        family = FAMILIES.get(obj.addressType or "")
        if family is None:
            self._problem(
                where,
                "addressType",
                obj.addressType,
                "only IPv4 and IPv6 slices are used; names in FQDN slices are never resolved, "
                "since whoever may write a slice could point clients anywhere",
            )
            return None
        made = Slice(key, (key[0], service), family, _stamp(obj.metadata))
        self._read_ports(where, obj, made)
        known = before.by_text() if before is not None and before.family == family else {}
        for i, endpoint in enumerate(obj.endpoints or ()):
            same = known.get(endpoint.addresses[0]) if endpoint.addresses else None
            if (
                same is not None
                and same[2] == endpoint
                and len(endpoint.addresses or ()) == 1
                and not self._is_api_server(same[0], made)  # the ports may be others now
            ):
                made.add(same)
            else:
                self._read_endpoint(where, i, endpoint, made)
        return made

    def _read_ports(self, where: str, obj: EndpointSlice, made: Slice) -> None:
        for i, port in enumerate(obj.ports or ()):
            if (port.protocol or "TCP") != "TCP":
                continue
            if port.port is None:
                self._problem(
                    where,
                    f"ports[{i}].port",
                    None,
                    "it means all ports, and a client needs one; give its number",
                )
            elif not 1 <= port.port <= MAX_PORT:
                self._problem(where, f"ports[{i}].port", port.port, "give 1 to 65535")
            elif (port.name or "") in made.ports:
                self._problem(
                    where,
                    f"ports[{i}].name",
                    port.name or "",
                    "another port has this name and is used; names are unique in a slice",
                )
            else:
                made.ports[port.name or ""] = port.port

    def _read_endpoint(self, where: str, i: int, endpoint: SliceEndpoint, made: Slice) -> None:
        addresses = endpoint.addresses or []
        path = f"endpoints[{i}].addresses"
        if len(addresses) != 1:
            # types.go: nothing is defined for further addresses, and kube-proxy passes them over.
            self._problem(
                where,
                path,
                addresses,
                "only the first is used; give each pod an endpoint of its own"
                if addresses
                else "give the pod's address",
            )
        if not addresses:
            return
        try:
            address = endpoint_address(addresses[0], made.family, self._rules)
        except ValueError as error:
            self._problem(where, f"{path}[0]", addresses[0], str(error))
            return
        if self._is_api_server(address, made):
            fix = "this is the API server; only the Service default/kubernetes leads there"
            self._problem(where, f"{path}[0]", addresses[0], fix)
            return
        made.add((address, self._locality(endpoint.zone or ""), endpoint))

    def _is_api_server(self, address: str, made: Slice) -> bool:
        known = self._rules.api_server
        if known is None or address != known[0] or made.service == _API_SERVICE:
            return False
        return known[1] in made.ports.values()

    def _locality(self, zone: str) -> Locality:
        found = self._localities.get(zone)
        if found is None:
            if len(self._localities) >= _MAX_LOCALITIES:
                self._localities.clear()
            found = self._localities[zone] = Locality(self._region, zone)
        return found

    def _problem(self, where: str, path: str, value: object, fix: str) -> None:
        self._report(Problem(where, path, short(value), fix))


def health(conditions: Conditions, *, publish_not_ready: bool = False) -> Health:
    """An endpoint's state from its conditions; see the module."""
    ready = conditions.ready is not False or publish_not_ready
    serving = conditions.serving is not False or publish_not_ready
    if not conditions.terminating:
        return Health.READY if ready else Health.UNHEALTHY
    return Health.DRAINING if serving else Health.UNHEALTHY


def _stamp(metadata: Metadata) -> float:
    """When the slice last changed [Unix seconds], 0 if it does not say."""
    text = metadata.annotation(CHANGED_ANNOTATION) or metadata.creationTimestamp or ""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
