"""A client process under the test's command: single calls, and load over several roads."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count

from harness.talk import ANSWER_WITHIN_S, Talk
from harness.waiting import Unmet, eventually

FEWEST_PER_SERVER = 3


@dataclass(frozen=True)
class Road:
    """A way to the servers.

    Attributes:
        target: what the channel is made for.
        metadata: sent with each request.
    """

    target: str
    metadata: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The end of one call: a server's name or an error's text, and how long it took."""

    server: str | None
    error: str | None
    seconds: float


class Client:
    """Speaks to ``load_process`` or to another program with the same commands."""

    def __init__(self, name, command, **process):
        self._talk = Talk(name, command, **process)
        self._numbers = count()
        self._within = {}

    def begin_call(self, road, *, work_ms=0, within=10):
        """Start a call; ``end_call`` with what is returned."""
        number = next(self._numbers)
        self._within[number] = within
        self._talk.say(do="call", number=number, road=asdict(road), work_ms=work_ms, within=within)
        return number

    def end_call(self, number):
        # Its limit is the client's to keep; it may be starting still.
        within = self._within.pop(number) + ANSWER_WITHIN_S
        answer = self._talk.answer(within=within, called=number)
        return Answer(answer["server"], answer["error"], answer["seconds"])

    def call(self, road, *, work_ms=0, within=10):
        """One call, from beginning to end."""
        return self.end_call(self.begin_call(road, work_ms=work_ms, within=within))

    def wait_answer(self, road, server, within=20):
        """Call until that server answers."""

        def look():
            answer = self.call(road, within=within)
            return answer.server == server or Unmet(f"{answer}")

        eventually(look, within=within, what=f"an answer of {server}")

    def expect_line(self, pattern, *, within):
        """The match of the first line that it printed and that fits."""
        return self._talk.process.expect(pattern, within=within)

    def freeze(self):
        """SIGSTOP."""
        self._talk.process.freeze()

    def thaw(self):
        """SIGCONT."""
        self._talk.process.thaw()

    @contextmanager
    def load(self, roads, *, rate, work_ms=20):
        """Requests at ``rate`` per second in all, over the roads in turn; at its end no error.

        Yields:
            The Load, to ask who serves.
        """
        load = Load(self._talk, tuple(roads))
        named = {name: asdict(road) for name, road in roads.items()}
        self._talk.forget_report()
        self._talk.say(do="start", roads=named, rate=rate, work_ms=work_ms)
        try:
            yield load
        finally:
            self._talk.say(do="stop")
            self._talk.answer(stopped=True)
        load.assert_no_errors()

    def stop(self):
        self._talk.stop()


class Load:
    """What a running load says of itself."""

    def __init__(self, talk, roads):
        self._talk = talk
        self._roads = roads

    def served(self):
        """Requests answered so far: by road, by server."""
        report = self._talk.report or {}
        return {r: Counter(report.get(r, {}).get("served", {})) for r in self._roads}

    def errors(self):
        """Failed requests so far: by road, by text."""
        report = self._talk.report or {}
        return {r: e for r in self._roads if (e := report.get(r, {}).get("errors"))}

    def assert_no_errors(self):
        self._assert_none_failed()
        idle = [road for road, served in self.served().items() if not served]
        assert not idle, f"no request was answered over {idle}"

    def comes_from(self, *servers, within=30):
        """Wait until each road is served by all of these servers and by no other."""
        begin = {road: self.served()[road] for road in self._roads}

        def look():
            missing = {}
            for road, served in self.served().items():
                new = served - begin[road]
                if set(new) - set(servers):
                    begin[road] = served  # an earlier answer of another; count again from here
                if set(new) != set(servers) or min(new.values()) < FEWEST_PER_SERVER:
                    missing[road] = dict(new)
            self._assert_none_failed()
            return Unmet(f"{missing}") if missing else True

        eventually(look, within=within, what=f"served by {', '.join(servers)} and no other")

    def goes_on(self, requests, within=30):
        """Wait until each road has been served that many requests more."""
        begin = {road: served.total() for road, served in self.served().items()}

        def look():
            more = {r: s.total() - begin[r] for r, s in self.served().items()}
            self._assert_none_failed()
            return min(more.values()) >= requests or Unmet(f"{more}")

        eventually(look, within=within, what=f"{requests} more requests on each road")

    def _assert_none_failed(self):
        errors = self.errors()
        assert not errors, f"failed requests: {errors}; served: {self.served()}"
