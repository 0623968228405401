"""Makes a scenario's events happen in a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatchmethod

from trimtab.sim import happenings as seen
from trimtab.sim.engine import Engine
from trimtab.sim.fleet import Fleet
from trimtab.sim.server import Server

_TOLERANCE = 0.1  # HorizontalPodAutoscaler's default


class Stage:
    """Where events happen.

    Args:
        engine: the run.
        fleet: its pods.
        end_s: when requests cease to come; nothing is planned beyond.

    Attributes:
        moments: when something happened that clients had to cope with [s].
    """

    def __init__(self, engine: Engine, fleet: Fleet, end_s: float) -> None:
        self._engine = engine
        self._fleet = fleet
        self._end_s = end_s
        self.moments: list[float] = []

    def plan(self, event: seen.Event) -> None:
        """Put an event into the calendar."""
        self._engine.at(event.at_s, lambda: self._happen(event))

    @singledispatchmethod
    def _happen(self, event: object) -> None:
        raise TypeError(f"{event!r} is no event")

    @_happen.register
    def _speed(self, event: seen.Speed) -> None:
        pods = self._fleet.chosen(event)
        self._note()
        self._fleet.slow_down(pods, 1.0 / event.speed)
        self._later(event.for_s, lambda: self._fleet.recover(pods, 1.0 / event.speed))

    @_happen.register
    def _antagonist(self, event: seen.Antagonist) -> None:
        stops = math.inf if event.for_s is None else event.at_s + event.for_s
        hit: list[Server] = []

        def move() -> None:
            self._fleet.recover(hit, event.slow)
            hit[:] = self._fleet.chosen(event) if self._engine.now < stops else []
            self._fleet.slow_down(hit, event.slow)
            if hit:
                self._again(event.every_s, move)

        move()

    @_happen.register
    def _failing(self, event: seen.Failing) -> None:
        pods = self._fleet.chosen(event)
        self._note()
        for pod in pods:
            pod.failing = event.failures
            pod.failure_s = event.after_ms / 1000.0

        def recover() -> None:
            for pod in pods:
                pod.failing = 0.0

        self._later(event.for_s, recover)

    @_happen.register
    def _gone(self, event: seen.Gone) -> None:
        pods = self._fleet.chosen(event)
        self._note()
        for pod in pods:
            self._engine.kill(pod)

        def told() -> None:
            self._fleet.remove([p for p in pods if p in self._fleet.known])
            self._fleet.publish()

        def back() -> None:
            self._fleet.replace(pods)
            self._fleet.publish()

        if event.for_s is None or event.told_after_s < event.for_s:
            self._later(event.told_after_s, told)
        self._later(event.for_s, back)

    @_happen.register
    def _restarted(self, event: seen.Restarted) -> None:
        self._note()
        self._fleet.replace(self._fleet.chosen(event))
        self._fleet.publish()

    @_happen.register
    def _added(self, event: seen.Added) -> None:
        self._note()
        self._fleet.add(event.pods, event.zone)
        self._fleet.publish()

    @_happen.register
    def _removed(self, event: seen.Removed) -> None:
        self._note()
        self._fleet.remove(self._fleet.chosen(event))
        self._fleet.publish()

    @_happen.register
    def _rollout(self, event: seen.Rollout) -> None:
        old = list(self._fleet.known)

        def step() -> None:
            leaving = [p for p in old[: event.pods] if p in self._fleet.known]
            del old[: event.pods]
            self._note()
            for pod in leaving:
                self._fleet.add(1, pod.endpoint.locality.zone)
            self._fleet.remove(leaving)
            self._fleet.publish()
            if old:
                self._again(event.every_s, step)

        step()

    @_happen.register
    def _autoscaler(self, event: seen.Autoscaler) -> None:
        last = [self._fleet.busy_s(), self._engine.now]
        starting = [0]

        def look() -> None:
            now = self._engine.now
            spent, there = self._fleet.busy_s(), self._fleet.workers_s(last[1], now)
            ratio = (spent - last[0]) / there / event.target if there else 1.0
            last[:] = [spent, now]
            pods = len(self._fleet.known)
            if abs(ratio - 1.0) > _TOLERANCE:
                wanted = min(max(math.ceil(pods * ratio), event.least), event.most)
                if wanted > pods + starting[0]:
                    start(wanted - pods - starting[0])
                elif wanted < pods:
                    self._note()
                    self._fleet.remove(self._fleet.known[wanted:])
                    self._fleet.publish()
            self._again(event.every_s, look)

        def start(count: int) -> None:
            starting[0] += count

            def ready() -> None:
                starting[0] -= count
                self._note()
                self._fleet.add(count, None)
                self._fleet.publish()

            self._later(event.start_s, ready)

        self._again(event.every_s, look)

    @_happen.register
    def _load(self, event: seen.LoadChanged) -> None:
        self._note()
        self._engine.rate_factor *= event.factor

        def recover() -> None:
            self._engine.rate_factor /= event.factor

        self._later(event.for_s, recover)

    def _note(self) -> None:
        self.moments.append(self._engine.now)

    def _later(self, seconds: float | None, act: Callable[[], None]) -> None:
        if seconds is not None:
            self._engine.at(self._engine.now + seconds, act)

    def _again(self, seconds: float, act: Callable[[], None]) -> None:
        """As ``_later``, unless the run is over by then: what repeats must not go on for ever."""
        if self._engine.now + seconds < self._end_s:
            self._later(seconds, act)
