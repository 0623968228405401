"""The pods of one run: which there are, which the clients know, and how they come and go."""

from __future__ import annotations

from random import Random

from trimtab.model import Locality
from trimtab.sim.engine import Engine, endpoint
from trimtab.sim.happenings import Chosen
from trimtab.sim.scenario import Servers
from trimtab.sim.server import Server


class Fleet:
    """See the module.

    Args:
        engine: where they run.
        model: what they are like.
        random: draws which pods an event meets.

    Attributes:
        known: the pods that clients are told of.
        all: every pod that there ever was.
    """

    def __init__(self, engine: Engine, model: Servers, random: Random) -> None:
        self._engine = engine
        self._model = model
        self._random = random
        self._slow: dict[Server, list[float]] = {}
        self._base: dict[Server, float] = {}
        self.known: list[Server] = []
        self.all: list[Server] = []
        for zone in model.placed():
            self.known.append(self._made(zone))

    def publish(self) -> None:
        """Tell all clients, as a control plane would."""
        self._engine.publish(self.known, self._engine.clients)

    def add(self, count: int, zone: str | None) -> list[Server]:
        """New pods, cold if the model says so; without a zone they go where the fewest are."""
        new = []
        for _ in range(count):
            pod = self._made(self._emptiest() if zone is None else zone)
            pod.cold = self._model.cold_requests
            pod.cold_factor = self._model.cold_slow
            self.known.append(pod)
            new.append(pod)
        return new

    def remove(self, pods: list[Server]) -> None:
        """They leave in order: no new requests, and what is there is finished."""
        for pod in pods:
            self.known.remove(pod)
            pod.until = self._engine.now

    def replace(self, pods: list[Server]) -> list[Server]:
        """New pods at the same addresses, with UIDs of their own."""
        new = []
        for pod in pods:
            zone = pod.endpoint.locality.zone
            number = self.all.index(pod)
            made = self._made(zone, number=number)
            made.cold = self._model.cold_requests
            made.cold_factor = self._model.cold_slow
            if pod in self.known:
                self.known[self.known.index(pod)] = made
            else:
                self.known.append(made)
            pod.until = self._engine.now
            new.append(made)
        return new

    def chosen(self, which: Chosen) -> list[Server]:
        """The pods that an event meets, of those that clients know."""
        pods = [p for p in self.known if which.zone in {None, p.endpoint.locality.zone}]
        if which.pods is not None:
            return self._random.sample(pods, min(which.pods, len(pods)))
        if which.part is not None:
            return self._random.sample(pods, round(which.part * len(pods)))
        return pods

    def slow_down(self, pods: list[Server], factor: float) -> None:
        """Multiply their service times, until ``recover`` with the same factor."""
        for pod in pods:
            self._slow.setdefault(pod, []).append(factor)
            self._set(pod)

    def recover(self, pods: list[Server], factor: float) -> None:
        """Take it back."""
        for pod in pods:
            self._slow[pod].remove(factor)
            self._set(pod)

    def busy_s(self) -> float:
        """Worker-seconds spent so far by all."""
        for pod in self.all:
            if pod.shared is not None:
                self._engine.set_slow(pod, pod.slow)  # brings the books up to date
        return sum(pod.work_s for pod in self.all)

    def workers_s(self, begin: float, end: float) -> float:
        """Worker-seconds that there were between two moments [s]."""
        return sum(
            pod.workers
            * max(0.0, min(end, end if pod.until is None else pod.until) - max(begin, pod.since))
            for pod in self.all
        )

    def _set(self, pod: Server) -> None:
        slow = self._base[pod]
        for factor in self._slow[pod]:
            slow *= factor
        self._engine.set_slow(pod, slow)

    def _made(self, zone: str, number: int | None = None) -> Server:
        model = self._model
        index = len(self.all) if number is None else number
        place = endpoint(index, locality=Locality("", zone), uid=f"pod-{len(self.all)}")
        pod = Server(
            place,
            model.workers,
            sharing=model.discipline == "sharing",
            since=self._engine.now,
        )
        speed = model.speed[index % len(model.speed)] * model.zone_speed.get(zone, 1.0)
        pod.slow = self._base[pod] = 1.0 / speed
        self.all.append(pod)
        return pod

    def _emptiest(self) -> str:
        counts = dict.fromkeys(self._model.zones or [""], 0)
        for pod in self.known:
            counts[pod.endpoint.locality.zone] += 1
        return min(counts, key=counts.__getitem__)
