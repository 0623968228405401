"""One cluster as an HTTP client sees it: whom to send to, whom to leave alone, whom to let go.

HTTP pools tell nobody whether they are connected. So an endpoint counts as connected until a
connection to it fails; then it rests until it takes one again, which is tried beside the requests
(``http_liveness``). All doors share this class, asyncio's too, so it has a lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from trimtab.attempt import Budget
from trimtab.backoff import Backoff
from trimtab.balancer import Balancer, Node, Pick
from trimtab.client import observing
from trimtab.client.call_details import WANTED
from trimtab.client.channel_spec import ChannelSpec
from trimtab.client.http_attempts import CLIENT_ERROR, HttpAttempts, report_of_http
from trimtab.client.http_liveness import LIVENESS
from trimtab.client.http_plans import HttpPlans
from trimtab.client.policy_errors import PolicyErrors
from trimtab.client.watching import Closable, Fixed, Watch
from trimtab.errors import NoEndpoints
from trimtab.load_codec import HEADER, decode
from trimtab.load_report import LoadReport
from trimtab.model import Snapshot
from trimtab.policies import Outcome
from trimtab.policies.selection import Labels

_LEAST_REST_S = 0.5
_MOST_REST_S = 10.0
_LOOK_S = 30.0  # how often it is looked whether there were requests
_ARRIVES_S = 10.0  # whoever has found a cluster waits for its endpoints by then


class Unknown(NoEndpoints):
    """No endpoints were received yet: waiting may help."""


class LetGo(NoEndpoints):
    """It is followed no more, since just now: who found it before finds it anew."""


class HttpCluster:
    """The endpoints of one cluster, each with a pool that ``pool`` makes at its first request.

    Attributes:
        tls: whether its requests go over TLS.
        alone: whether there is only one endpoint.
        left: endpoints that have left, with pools to be closed: see ``leavers``.

    Args:
        spec: what the caller asked for.
        pool: makes the pool of an endpoint.
        plans: what may run more than once.
        closes: whether pools are to be closed.

    Raises:
        ConfigError: the policy is unknown or has a bad parameter.
    """

    def __init__(
        self,
        spec: ChannelSpec,
        pool: Callable[[Node], Any],
        plans: HttpPlans,
        *,
        closes: bool = True,
    ) -> None:
        self.clock = time.monotonic  # noqa: TID251 - the door gives the core its clock
        self.wall = time.time  # noqa: TID251 - as above
        self.lock = threading.RLock()
        self._policy_errors = PolicyErrors(spec.service)
        self.balancer = Balancer(
            spec.service,
            clock=self.clock,
            random=Random(),
            wall=self.wall,
            zone=spec.zone,
            labels=spec.labels,
            policy=spec.policy,
            stalled=self._ask_silent,
            raised=self._policy_errors,
            lock=self.lock,
        )
        self.balancer.tells_connections = False
        self.service = spec.service
        self.attempts = HttpAttempts(
            plans,
            Budget(lock=self.lock, in_flight=lambda: self.balancer.in_flight),
            self.clock,
            Random(),
            self.balancer,
            observing.installed(),
        )
        self._spec = spec
        self.key_function = spec.hash_key
        self._pool = pool
        self._closes = closes
        self.tls = False
        self.alone = False
        self._simple = False
        self._backoffs: dict[Node, Backoff] = {}
        self.left: deque[Node] = deque()
        self._waiters: set[Callable[[], None]] = set()
        self._expected_until = self.clock() + _ARRIVES_S
        self._forgotten = self._gone = False
        self._picks = 0
        self._called = self._look_at = self.clock()
        self._failure = ""
        self._watch: Watch = Fixed()
        self._reporting: Closable = Fixed()

    def start(self) -> None:
        """Begin to follow the endpoints.

        Raises:
            ConfigError: a wrong endpoint or bootstrap.
        """
        LIVENESS.attend(self)
        self._watch = self._spec.watch(self)
        self._reporting = self._spec.report(self.balancer)

    # What the watch calls, from any thread.

    def updated(self, snapshot: Snapshot) -> None:
        """See ``Watcher``."""
        with self.lock:
            change = self.balancer.update(snapshot)
            self.attempts.follow(snapshot.service)
            self._failure = ""
            self.alone = len(self.balancer.nodes) == 1
            self._simple = self.balancer.hash_key is None and self.attempts.is_simple
            for node in change.added:
                self.balancer.set_connected(node, True)
            for node in change.removed:
                self._backoffs.pop(node, None)
                # Without a pool, and without a request that may yet make one, there is nothing to close.
                if self._closes and (node.transport is not None or node.in_flight):
                    self.left.append(node)
            waiters = list(self._waiters)
            refused = self.balancer.policy_error
        self._policy_errors.refused(refused)
        for wake in waiters:
            wake()

    def failed(self, reason: str) -> None:
        """See ``Watcher``."""
        with self.lock:
            self._failure = reason
            waiters = list(self._waiters)
        for wake in waiters:
            wake()

    # What a door calls for each request.

    def is_plain(self, method: str) -> bool:
        """Whether its attempts just follow one another, unobserved, and no key is wanted: most requests are so."""
        if self._simple and not WANTED.now:
            return True
        return self.balancer.hash_key is None and self.attempts.is_plain(method)

    def pick(
        self,
        key: str | None = None,
        labels: Labels | None = None,
        been: Sequence[Node] = (),
    ) -> Pick:
        """Choose an endpoint, another than ``been`` if there is one; its pool is in ``pick.node.transport``.

        Raises:
            Unknown: nothing is known yet, ``add_waiter`` and try again.
            LetGo: see there.
            NoEndpoints: nobody can be asked; the text says why.
        """
        if self.balancer.dropped:
            self.balancer.take_back()
        try:
            if been:
                pick = self.balancer.pick_apart(been, key, labels)
            else:
                pick = self.balancer.pick(key, labels)
        except NoEndpoints as error:
            if self._gone:
                raise self._late() from None
            if self.balancer.snapshot is not None:
                raise
            if self._failure:
                raise NoEndpoints(self._failure) from None
            raise Unknown(
                f"{error} from {self._watch.origin}; check that it runs and knows the service"
            ) from None
        # ``let_go`` counts this request or comes before it, as both take the lock.
        if self._forgotten:
            pick.finish(Outcome.CANCELLED)
            raise self._late()
        if pick.node.transport is None:
            self._make_pool(pick)
        return pick

    def _make_pool(self, pick: Pick) -> None:
        node = pick.node
        with self.lock:
            if node.transport is not None:
                return
            if self._forgotten:  # nobody would close it
                pick.finish(Outcome.CANCELLED)
                raise self._late()
            node.transport = self._pool(node)

    def _late(self) -> LetGo:
        return LetGo(f"{self.service}: let go of")

    def rest(self, node: Node) -> None:
        """A connection to it failed: leave it alone for a while, if others are there."""
        with self.lock:
            if not node.connected or self.balancer.nodes.get(node.endpoint.key) is not node:
                return  # it rests already, or it has left
            backoff = self._backoffs.setdefault(
                node, Backoff(Random(), first_s=_LEAST_REST_S, cap_s=_MOST_REST_S)
            )
            until = self.clock() + _LEAST_REST_S + backoff.next()
            self.balancer.set_connected(node, False)
        LIVENESS.ask_resting(self, node, until)

    def answered(self, node: Node, status: int, headers: Mapping[str, str]) -> LoadReport | None:
        """It gave a response's headers: it rests no more, and the next rest is a short one again.

        Args:
            node: who.
            status: of the response.
            headers: of the response; a mapping that knows no case.

        Returns:
            What the server said of its load, if that makes a difference to anybody.
        """
        node.heard = True
        if self._backoffs:
            self._rests_no_more(node)
        if status >= CLIENT_ERROR:
            return report_of_http(headers, self.wall)
        # What else there is, ``Retry-After``, is for those that failed.
        text = headers.get(HEADER) if self.balancer.reads_reports else None
        return decode(text) if text else None

    def _rests_no_more(self, node: Node) -> None:
        with self.lock:
            self._backoffs.pop(node, None)
            if self.balancer.nodes.get(node.endpoint.key) is node:
                self.balancer.set_connected(node, True)

    def returned(self, node: Node, *, connects: bool) -> None:
        """See ``http_liveness.Asking``."""
        with self.lock:
            if node.connected or self.balancer.nodes.get(node.endpoint.key) is not node:
                return
            backoff = self._backoffs.get(node)
            if connects or backoff is None:
                self.balancer.set_connected(node, True)
                return
            until = self.clock() + _LEAST_REST_S + backoff.next()
        LIVENESS.ask_resting(self, node, until)

    def _ask_silent(self, node: Node) -> None:
        LIVENESS.ask_silent(self, node)

    def leavers(self) -> Iterator[Any]:
        """Pools of endpoints that have left with nothing in flight; each is returned once.

        One is taken as it is asked for: who is interrupted while he closes one leaves the rest to the next.
        """
        while True:
            with self.lock:
                idle = next((node for node in self.left if not node.in_flight), None)
                if idle is None:
                    return
                self.left.remove(idle)
            if idle.transport is not None:
                yield idle.transport

    def pools(self) -> list[Any]:
        """All pools, those of endpoints that have left too."""
        with self.lock:
            nodes = [*self.balancer.nodes.values(), *self.left]
            self.left.clear()
            return [node.transport for node in nodes if node.transport is not None]

    def add_waiter(self, wake: Callable[[], None]) -> bool:
        """Call ``wake``, from any thread, when something is told of the endpoints.

        Returns:
            False if nothing will ever be: the cluster is ``forgotten``.
        """
        with self.lock:
            self._expected_until = 0.0
            self._waiters.add(wake)
            return not self._forgotten

    def remove_waiter(self, wake: Callable[[], None]) -> None:
        """Call it no more."""
        with self.lock:
            self._waiters.discard(wake)

    def explain(self, node: Node, problem: object) -> str:
        """What a caller reads of a failed attempt: service, endpoint, and how many are ready."""
        usable = sum(n.usable for n in self.balancer.nodes.values())
        return (
            f"{self.service}: endpoint {node.endpoint.target}: {problem} "
            f"({usable} of {len(self.balancer.nodes)} endpoints ready)"
        )

    @property
    def is_unknown(self) -> bool:
        """Whether nothing was ever told of its endpoints, and nobody waits for them or is about to."""
        return (
            self.balancer.snapshot is None
            and not self._waiters
            and bool(self._failure or self.clock() >= self._expected_until)
        )

    def forget(self) -> bool:
        """As ``close``, if it ``is_unknown`` still. Whether it is."""
        with self.lock:
            if not self.is_unknown:
                return False
            self._forgotten = True
        self._follow_no_more()
        return True

    def beat(self) -> None:
        """See ``http_liveness.Asking``."""
        self.balancer.take_back()
        self.balancer.beat()
        if self.clock() >= self._look_at:
            self._look()

    def _look(self) -> None:
        """See whether there were requests: now and then, so that they need not say when they came."""
        now = self.clock()
        self._look_at = now + _LOOK_S
        picks = sum(self.balancer.zone_picks.values())
        if picks != self._picks:
            self._picks, self._called = picks, now

    def is_idle(self, longest_s: float) -> bool:
        """Whether it was not called for so long [s], or up to ``_LOOK_S`` longer.

        A fixed list needs nobody to follow it, and is never idle.
        """
        self._look()
        return (
            self._spec.endpoints is None
            and self.balancer.snapshot is not None
            and self.clock() - self._called >= longest_s
        )

    def let_go(self) -> list[Node] | None:
        """As ``close``, unless a request is under way or waits: the endpoints whose pools are to be closed."""
        with self.lock:
            if self._waiters or self.balancer.in_flight:
                return None
            self._forgotten = self._gone = True
            nodes = [*self.balancer.nodes.values(), *self.left] if self._closes else []
            self.left.clear()
        self._follow_no_more()
        return [node for node in nodes if node.transport is not None]

    def abandon(self) -> None:
        """Hear no more of the endpoints; takes no lock, so that a finaliser may call it in the middle of anything."""
        self._watch.close()
        self._reporting.close()

    def close(self) -> None:
        """Hear no more of the endpoints. Who waits for them, or comes later, finds the cluster anew.

        Idempotent, from any thread.
        """
        with self.lock:
            self._forgotten = self._gone = True
            waiters = list(self._waiters)
        self._follow_no_more()
        for wake in waiters:
            wake()

    def _follow_no_more(self) -> None:
        LIVENESS.leave(self)
        self._watch.close()
        self._reporting.close()
        self.balancer.say_raised()
