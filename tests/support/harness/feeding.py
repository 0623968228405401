"""Random fleets, batch by batch, to a real Envoy in both transports and to native gRPC.

All belong to one Service, in different zones, so that they are sent views of their own.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

from fleets import fleet, front
from harness.control_plane import printed_bootstrap
from harness.envoy import Envoy, aggregated
from harness.talk import Talk
from plane import QueueSource, eventually, running
from trimtab.control import metrics
from trimtab.model import Removed, Synced, Updated

SUPPORT = Path(__file__).parent.parent
_WITHIN_S = 120
_LOOK_EVERY_S = 0.05  # one costs the plane's loop milliseconds
_SERVICE = "front.shop"
_ZONES = {"sotw": "a", "delta": "b", "native": "c"}


class Feeding:
    """A control plane in this process, and the real clients at its other end."""

    def __init__(self, plane, source, native, nodes):
        self._plane = plane
        self._source = source
        self._native = native
        self._nodes = nodes

    async def feed(self, seeds):
        """Give all clients these fleets, and take them away again; 0 rejections."""
        fleets = {s.cluster: s for s in map(fleet, seeds)}
        clients = front(seeds[0])
        self._source.put(Updated(clients), *map(Updated, fleets.values()))
        self._native.say(open=[f"xds:///{name}" for name in fleets])
        await asyncio.to_thread(self._native.answer, within=_WITHIN_S, opened=len(fleets))
        everything = {node: {*fleets, clients.cluster} for node in self._nodes}
        everything["native"] = set(fleets)
        await self._until(lambda: self._have(everything))
        self._source.put(Updated(front(seeds[-1] + 1)))
        await self._until(lambda: self._settled() and self._have(everything))
        self._native.say(open=[])
        await asyncio.to_thread(self._native.answer, within=_WITHIN_S, opened=0)
        self._source.put(Removed(clients.cluster), *map(Removed, fleets))
        nothing = {node: set() for node in self._nodes}
        await self._until(lambda: self._have(nothing))
        assert not self.rejected(), self.rejected()

    def rejected(self):
        """How many responses were rejected, by type and client."""
        return {labels: n for labels, n in self._values(metrics.NACKS).items() if n}

    def accepted(self):
        """How many responses were accepted, by type and client."""
        return dict(self._values(metrics.ACKS))

    @staticmethod
    async def _until(look):
        await eventually(look, within=_WITHIN_S, every=_LOOK_EVERY_S)

    def _values(self, metric):
        return next(values for m, values in self._plane.counters if m.name == metric)

    def _settled(self):
        """Whether all that was put in has been written."""
        waiting = any(stream.session.changed(()) for stream in self._plane.server.streams)
        return self._source.empty and not waiting

    def _have(self, wanted):
        """Whether each node has accepted the endpoints of exactly these clusters."""
        # Counted when it happens, so that nobody need look at every resource for errors.
        assert not self.rejected(), f"{self.rejected()}: {self._errors()}"
        sessions = {}
        for stream in self._plane.server.streams:
            if stream.session.client is not None:
                sessions.setdefault(stream.session.client.node_id, []).append(stream.session)
        return all(self._names(sessions.get(node, ())) == names for node, names in wanted.items())

    @staticmethod
    def _names(sessions):
        """The clusters of which endpoints have been accepted."""
        return {
            s.name
            for session in sessions
            for s in session.statuses()
            if s.state == "acked" and s.type_url.endswith(".ClusterLoadAssignment")
        }

    def _errors(self):
        return [
            f"{stream.session.client.node_id}: {resource.name}: {resource.error}"
            for stream in self._plane.server.streams
            for resource in stream.session.statuses()
            if resource.error
        ]


@contextlib.asynccontextmanager
async def feeding(directory):
    """``async with feeding(tmp_path) as clients``: everything runs inside."""
    source = QueueSource(Synced())
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(running(source))
        address = str(plane.xds_address)
        for transport in ("sotw", "delta"):
            place = {"zone": _ZONES[transport], "service": _SERVICE}
            text = aggregated(f"envoy-{transport}", address, transport, **place)
            envoy = await asyncio.to_thread(Envoy, transport, text, directory)
            stack.push_async_callback(asyncio.to_thread, envoy.stop)
        bootstrap = await asyncio.to_thread(
            printed_bootstrap,
            "grpc",
            address,
            (("node_id", "native"), ("zone", _ZONES["native"]), ("service", _SERVICE)),
        )
        native = Talk(
            "native",
            [sys.executable, "-m", "harness.open_process"],
            cwd=SUPPORT,
            env={"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap},
        )
        stack.push_async_callback(asyncio.to_thread, native.stop)
        yield Feeding(plane, source, native, ["envoy-sotw", "envoy-delta"])
