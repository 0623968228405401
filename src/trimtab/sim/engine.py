"""The simulator's loop: virtual time, one calendar, and the production balancer in each client.

A request: the client's balancer picks, the request travels, waits for a worker, is served, and its
answer travels back with a load report. Nothing here knows a policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Protocol

from trimtab.balancer import Balancer, Change, Node
from trimtab.errors import NoEndpoints
from trimtab.load_report import LoadReport
from trimtab.model import Endpoint, PolicyConfig, Snapshot, ZoneSplit
from trimtab.policies import Outcome
from trimtab.policies.zone_split import Shares, zone_split
from trimtab.sim.server import Server
from trimtab.sim.service_time import Draw

_ARRIVE, _SERVED, _SHARED, _ANSWER, _CALL = range(5)
_REFUSED_S = 0.01  # how long a caller in a closed loop waits when there is no endpoint


class Chooser(Protocol):
    """What the engine asks of a client's balancer; ``bounds`` has others than the production one."""

    @property
    def probing(self) -> bool:
        """Whether ``take_probes`` is to be called after every pick."""

    def update(self, snapshot: Snapshot) -> Change:
        """Take a new snapshot."""

    def pick(self) -> Any:
        """Choose: an object with ``node.transport``, the server, and ``finish``."""

    def take_probes(self) -> list[Node]:
        """Whom to probe."""

    def probed(self, node: Node, report: LoadReport) -> None:
        """A probe was answered."""


@dataclass(slots=True)
class Client:
    """One process that sends requests.

    Attributes:
        zone: where it runs.
        balancer: the production object, or a bound.
        share: of all requests, relative to other clients.
    """

    zone: str
    balancer: Chooser
    share: float = 1.0


@dataclass(slots=True)
class Tally:
    """What was seen. Times in seconds.

    Attributes:
        latencies: of answered requests, in order of their ends, warm-up left out.
        begun: when each of them began.
        failures: when requests failed.
        crossed: requests that went to another zone.
        requests: all that ended after the warm-up, refused ones included.
        picks: by endpoint address.
        refused: requests that found no endpoint; ``failures`` counts them as well.
        probes: sent, those of the warm-up included.
    """

    latencies: list[float] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    failures: list[float] = field(default_factory=list)
    crossed: int = 0
    requests: int = 0
    refused: int = 0
    probes: int = 0
    picks: dict[str, int] = field(default_factory=dict)


class Engine:
    """See the module.

    Args:
        draw: service times.
        random: arrivals, failures.
        delay: one way from one zone to another [s].
        warmup_s: requests that begin before are left out of the tally.

    Attributes:
        now: virtual time [s].
        rate_factor: arrivals of open loops come so many times as often.
    """

    def __init__(
        self,
        *,
        draw: Draw,
        random: Random,
        delay: Callable[[str, str], float],
        warmup_s: float = 0.0,
    ) -> None:
        self.now = 0.0
        self.rate_factor = 1.0
        self.tally = Tally()
        self.servers: dict[tuple[str, int], Server] = {}
        self.clients: list[Client] = []
        self._draw = draw
        self._random = random
        self._delay = delay
        self._delays: dict[tuple[str, str], float] = {}
        self._warmup_s = warmup_s
        self._calendar: list[Any] = []
        self._order = count()

    @property
    def calm(self) -> bool:
        """Whether there is nothing left to do."""
        return not self._calendar

    def clock(self) -> float:
        """Virtual time [s]."""
        return self.now

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do that at this time."""
        heappush(self._calendar, (when, next(self._order), _CALL, act, None))

    def add_client(self, zone: str, policy: PolicyConfig | None, random: Random) -> Client:
        """A client with a balancer of its own."""

        def stalled(node: Node) -> None:
            """It is asked for a sign of life, which no work in hand keeps a server from giving."""
            server: Server = node.transport
            back = self.now + 2.0 * self._between(zone, server.endpoint.locality.zone)
            self.at(back, lambda: None if server.gone else balancer.alive(node))

        balancer = Balancer(
            "sim", clock=self.clock, random=random, zone=zone, policy=policy, stalled=stalled
        )
        client = Client(zone, balancer)
        self.clients.append(client)
        return client

    def publish(
        self, servers: Sequence[Server], clients: Sequence[Client], *, split: bool = False
    ) -> None:
        """Tell the clients which endpoints there are.

        Args:
            servers: those that are told of.
            clients: who is told.
            split: whether they are told of the zones' split, too, as by a control plane that knows
                how many clients run in each zone.
        """
        endpoints = tuple(s.endpoint for s in servers)
        told: dict[str, Snapshot] = {}
        rows = self._split(endpoints) if split else {}
        for server in servers:
            self.servers[server.endpoint.key] = server
        for client in clients:
            snapshot = told.get(client.zone)
            if snapshot is None:
                base = rows.get(client.zone)
                zones = ZoneSplit(client.zone, tuple(base.items())) if base else None
                snapshot = told[client.zone] = Snapshot("sim", endpoints, zones=zones)
            change = client.balancer.update(snapshot)
            for node in change.added:
                node.transport = self.servers[node.endpoint.key]

    def _split(self, endpoints: Sequence[Endpoint]) -> Mapping[str, Shares]:
        asking = Counter(client.zone for client in self.clients)
        capacity = Counter[str]()
        for endpoint in endpoints:
            capacity[endpoint.locality.zone] += endpoint.weight
        return zone_split(asking, capacity)

    def open_loop(self, rate: float, until: float, choose: Callable[[], Client]) -> None:
        """Poisson arrivals at a total rate [requests/s], each at a client that ``choose`` draws."""
        expo = self._random.expovariate
        self.arrivals(lambda: expo(rate * self.rate_factor), until, choose)

    def arrivals(
        self, gap: Callable[[], float], until: float, choose: Callable[[], Client]
    ) -> None:
        """Arrivals with these gaps [s], each at a client that ``choose`` draws."""

        def arrival() -> None:
            self._begin(choose(), None)
            then = self.now + gap()
            if then < until:
                heappush(self._calendar, (then, next(self._order), _CALL, arrival, None))

        first = self.now + gap()
        if first < until:
            self.at(first, arrival)

    def set_slow(self, server: Server, slow: float) -> None:
        """Service times are multiplied by that from now on.

        A worker finishes its request at the old speed; shared processors change at once.
        """
        if server.shared is None:
            server.slow = slow
            return
        server.shared.advance(self.now)
        server.slow = slow
        self._plan(server)

    def kill(self, server: Server) -> None:
        """It is gone: what waits there fails now, what a worker has in hand fails at its end."""
        server.gone = True
        lost = list(server.queue)
        server.queue.clear()
        if server.shared is not None:
            lost += server.shared.drop(self.now)
        for request in lost:
            server.meter.end(request[1], 0.0, counts=False)
            self._fail(server, request[0], 0.0)

    def closed_loop(self, client: Client, workers: int, think: Draw, until: float) -> None:
        """So many callers, each of which waits for its answer, thinks, and calls again."""

        def again() -> None:
            then = self.now + think()
            if then < until:
                self.at(then, lambda: self._begin(client, again))

        for _ in range(workers):
            again()

    # One loop without calls, since it runs four times for each of millions of requests.
    def run(self, until: float | None = None) -> None:  # noqa: C901, PLR0912, PLR0915 - see above
        """Work off the calendar; it empties when arrivals have ended and all was answered."""
        calendar, order = self._calendar, self._order
        tally, draw, random = self.tally, self._draw, self._random.random
        while calendar:
            when, _, kind, what, more = heappop(calendar)
            if until is not None and when > until:
                heappush(calendar, (when, next(order), kind, what, more))
                self.now = until
                return
            self.now = when
            if kind == _CALL:
                what()
            elif kind == _ARRIVE:
                server = what[2]
                if server.gone:
                    self._fail(server, what, 0.0)
                    continue
                if server.failing and random() < server.failing:
                    self._fail(server, what, server.failure_s)
                    continue
                request = (what, server.meter.begin(), when)
                if server.shared is not None:
                    server.shared.begin(when, server.cooled(draw()), next(order), request)
                    self._plan(server)
                elif server.working < server.workers:
                    server.working += 1
                    seconds = server.takes(draw())
                    server.work_s += seconds
                    heappush(calendar, (when + seconds, next(order), _SERVED, server, request))
                else:
                    server.queue.append(request)
            elif kind == _SERVED:
                server = what
                request = more
                if server.gone:
                    server.meter.end(request[1], 0.0, counts=False)
                    self._fail(server, request[0], 0.0)
                    continue
                server.served += 1
                server.meter.end(request[1], when - request[2])
                answer = (True, server.meter.report())
                sent = request[0]
                heappush(calendar, (when + sent[4], next(order), _ANSWER, sent, answer))
                if server.queue:
                    request = server.queue.popleft()
                    seconds = server.takes(draw())
                    server.work_s += seconds
                    heappush(calendar, (when + seconds, next(order), _SERVED, server, request))
                else:
                    server.working -= 1
            elif kind == _SHARED:
                server = what
                if more != server.shared.version:  # something came in between
                    continue
                request = server.shared.end(when)
                server.served += 1
                server.meter.end(request[1], when - request[2])
                answer = (True, server.meter.report())
                sent = request[0]
                heappush(calendar, (when + sent[4], next(order), _ANSWER, sent, answer))
                self._plan(server)
            else:
                pick, begun, server, _, _, then = what
                ok, report = more
                pick.finish(Outcome.SUCCESS if ok else Outcome.FAILURE, report)
                if begun >= self._warmup_s:
                    tally.requests += 1
                    if ok:
                        tally.latencies.append(when - begun)
                        tally.begun.append(begun)
                    else:
                        tally.failures.append(begun)
                if then is not None:
                    then()

    def _begin(self, client: Client, then: Callable[[], None] | None) -> None:
        now = self.now
        try:
            pick = client.balancer.pick()
        except NoEndpoints:
            if now >= self._warmup_s:
                self.tally.requests += 1
                self.tally.refused += 1
                self.tally.failures.append(now)
            if then is not None:
                self.at(now + _REFUSED_S, then)
            return
        server: Server = pick.node.transport
        server.sent += 1
        zone = server.endpoint.locality.zone
        delay = self._between(client.zone, zone)
        if now >= self._warmup_s:
            address = server.endpoint.address
            picks = self.tally.picks
            picks[address] = picks.get(address, 0) + 1
            if zone != client.zone:
                self.tally.crossed += 1
        sent = (pick, now, server, client, delay, then)
        heappush(self._calendar, (now + delay, next(self._order), _ARRIVE, sent, None))
        if client.balancer.probing:
            for node in client.balancer.take_probes():
                self._probe(client, node)

    def _plan(self, server: Server) -> None:
        """Put the next departure from shared processors into the calendar."""
        shared = server.shared
        if shared is not None and shared.requests:
            when = shared.next_end()
            heappush(self._calendar, (when, next(self._order), _SHARED, server, shared.version))

    def _fail(self, server: Server, sent: Any, seconds: float) -> None:
        server.failed += 1
        when = self.now + seconds + sent[4]
        heappush(self._calendar, (when, next(self._order), _ANSWER, sent, (False, None)))

    def _probe(self, client: Client, node: Node) -> None:
        server: Server = node.transport
        delay = self._between(client.zone, server.endpoint.locality.zone)
        self.tally.probes += 1

        def ask() -> None:
            if not server.gone:
                report = server.meter.report()
                self.at(self.now + delay, lambda: client.balancer.probed(node, report))

        self.at(self.now + delay, ask)

    def _between(self, here: str, there: str) -> float:
        delay = self._delays.get((here, there))
        if delay is None:
            delay = self._delays[here, there] = self._delay(here, there)
        return delay


def endpoint(number: int, **more: Any) -> Endpoint:
    """A made-up address."""
    return Endpoint(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}", 80, **more)
