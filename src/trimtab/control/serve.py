"""``trimtab serve``: starts the parts in order, and ends them in order.

Start: admin pages (not ready), xDS port (silent), sources, first sync, ready. End: not ready,
streams ended one by one, xDS stopped, admin pages stopped.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from trimtab.control import metrics
from trimtab.control.admin import Admin
from trimtab.control.admin_gate import AdminGate
from trimtab.control.authorization import Authorization
from trimtab.control.certificate_end import CertificateEnd
from trimtab.control.collector import Collector
from trimtab.control.config import Address, Config, load_config, refuse_open
from trimtab.control.jobs import Jobs
from trimtab.control.last_known import LastKnown, StateOptions
from trimtab.control.logs import printable
from trimtab.control.loop_lag import LoopLag
from trimtab.control.report_streams import ReportStreams
from trimtab.control.security import SecurityOptions
from trimtab.control.server import DOUBT_S, LOAD_INTERVAL_S, WRITE_DEADLINE_S, XdsServer
from trimtab.control.store import HOLD_S, PATIENCE_S, Store
from trimtab.control.verdicts import Verdicts
from trimtab.discovery import ReportProblem, Source
from trimtab.discovery.path_watch import changes
from trimtab.errors import ConfigError
from trimtab.telemetry import Counters
from trimtab.xds.catalog import Catalog

_LOG = logging.getLogger(__name__)

DRAIN_S = 5.0

# A source by name, made once the place to report problems to is known.
MakeSource = Callable[[ReportProblem, Counters], Source]
NamedFactory = tuple[str, MakeSource]


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Everything that ``trimtab serve`` is told.

    Attributes:
        xds: where xDS is served.
        admin: where the admin pages are.
        config: the configuration file's content.
        config_file: the file itself; its ``authorization``, ``admin_readers`` and
            ``status_readers`` apply whenever it changes.
        security: TLS, and how clients prove who they are.
        insecure: ports that know nobody are wanted beyond loopback.
        drain_s: over how many seconds streams are ended on SIGTERM.
        write_deadline_s: how long one message may wait for a client to read.
        seed: makes the order of draining repeatable; None draws one.
        source_timeout_s: how long to wait for a cluster at the start while others are read.
        state: the file of what was known last.
        hold_s: how long a loss without evidence is not believed; 0: not at all.
        load_interval_s: how often clients report their load [s].
        doubt_s: how long what clients bring along and nobody here knows is not said to be gone [s].
        dropped_lines: how many lines of the log were lost until now.
    """

    xds: Address
    admin: Address
    config: Config = field(default_factory=Config)
    config_file: Path | None = None
    security: SecurityOptions = field(default_factory=SecurityOptions)
    insecure: bool = False
    drain_s: float = DRAIN_S
    write_deadline_s: float = WRITE_DEADLINE_S
    seed: int | None = None
    source_timeout_s: float = PATIENCE_S
    state: StateOptions = field(default_factory=StateOptions)
    hold_s: float = HOLD_S
    load_interval_s: float = LOAD_INTERVAL_S
    doubt_s: float = DOUBT_S
    dropped_lines: Callable[[], int] = int

    def check(self) -> None:
        """Refuse what is unsafe, before anything starts.

        Raises:
            ConfigError: a port beyond loopback that knows nobody, without ``insecure``; or security
                options that can't work together.
        """
        self.security.check()
        if not self.security.identifies:
            fix = "Give it TLS (--tls-cert, --tls-key) with --tls-client-ca or --token-audience"
            refuse_open(self.xds, flag="--xds", insecure=self.insecure, fix=fix)
        if not self.security.guards_admin:
            fix = "Give it TLS (--tls-cert, --tls-key) with --admin-token-audience, or reach it through kubectl port-forward"
            refuse_open(self.admin, flag="--admin", insecure=self.insecure, fix=fix)
        readers = self.config.admin_readers
        if self.security.admin_audience and all(r.startswith("static:") for r in readers):
            raise ConfigError(
                "--admin-token-audience: nobody may read the admin pages; name subjects under "
                "admin_readers in the file given to --config, such as "
                "system:serviceaccount:trimtab-system:trimtab-reader"
            )


class ControlPlane:
    """The running parts of one control plane, on the running loop."""

    def __init__(self, options: ServeOptions) -> None:
        options.check()
        clock = asyncio.get_running_loop().time
        self.options = options
        self.counters = Counters(metrics.METRICS)
        for name, rows in metrics.FROM_THE_START.items():
            for labels in rows:
                self.counters.add(name, *labels, by=0)
        catalog = Catalog(options.config.aliases(), load_reports=options.config.load_reports)
        self.store = Store(
            catalog,
            self.counters,
            clock=clock,
            patience_s=options.source_timeout_s,
            hold_s=options.hold_s,
        )
        self.jobs = Jobs()
        self.authorization = Authorization(options.config.authorization)
        security = options.security
        wall = time.time  # noqa: TID251 - the door: the parts are told
        verdicts, of_readers = (Verdicts(clock=clock, wall=wall) for _ in range(2))
        self._last_known = LastKnown(
            options.state,
            self.store,
            verdicts,
            self.counters,
            audience=security.audience,
            wall=wall,
        )
        self._authenticator = security.authenticator(verdicts, options.config.limits)
        certificate = security.certificate()
        self.server = XdsServer(
            self.store,
            self.counters,
            clock=clock,
            wall=wall,
            random=Random(options.seed),
            write_deadline_s=options.write_deadline_s,
            limits=options.config.limits,
            certificate=certificate,
            authenticator=self._authenticator,
            authorization=self.authorization,
            load_interval_s=options.load_interval_s,
            status_readers=options.config.status_readers,
            doubt_s=options.doubt_s,
        )
        self.server.loads.servers.tells_reasons = options.admin.is_loopback or (
            security.guards_admin and not security.open_metrics
        )
        self._reports = ReportStreams(
            self.server.loads.servers, options.config.out_of_band, Random(options.seed)
        )
        readers = security.admin_authenticator(of_readers, options.config.limits)
        self._authenticators = [a for a in (self._authenticator, readers) if a is not None]
        self.admin = Admin(
            self.store,
            self.server,
            self.counters,
            clock=clock,
            hosts=options.config.admin_hosts,
            failed=lambda: self.jobs.failed,
            dropped_lines=options.dropped_lines,
            missing=lambda: next((a.missing for a in self._authenticators if a.missing), ""),
            gate=AdminGate(
                readers, options.config.admin_readers, open_metrics=security.open_metrics
            )
            if readers
            else None,
            certificate=certificate,
        )
        self._lag = LoopLag(self.counters, clock)
        self._end = (
            None if certificate is None else CertificateEnd(certificate, self.counters, wall)
        )
        self.xds_address = options.xds
        self.admin_address = options.admin

    async def start(self) -> None:
        """Listen on both ports. Nothing is answered on the xDS port before ``follow`` synced.

        Raises:
            TrimtabError: an address can't be had.
        """
        self.xds_address = await self.server.start(self.options.xds)
        try:
            self.admin_address = await self.admin.start(self.options.admin)
        except BaseException:
            await self.stop()
            raise
        for port, address, known in (
            ("xds", self.xds_address, self.options.security.identifies),
            ("admin", self.admin_address, self.admin.gate is not None),
        ):
            is_open = not (address.is_loopback or known)
            self.counters.set(metrics.INSECURE, int(is_open), port)
            if is_open:
                _LOG.warning(
                    "%s listens on %s and knows nobody: whoever can reach it reads everything",
                    port,
                    address,
                )

    async def follow(self, sources: Sequence[NamedFactory]) -> None:
        """Apply what the sources and the configuration file say, for ever.

        Raises:
            DiscoveryError: a source ended or failed.
            JobError: one of the other jobs did.
        """
        self.store.remember(self._last_known.load(), self.options.state.after_s)
        jobs = {
            "reading the sources": self.store.run(
                [(name, make(self.store.report(name), self.counters)) for name, make in sources]
            ),
            "following the configuration file": self._follow_config(),
            "keeping the state file": self._last_known.keep(),
            "reading load reports of endpoints": self._reports.run(),
            "looking for clients that don't read": self.server.watch_readers(),
            "measuring how late the loop is": self._lag.run(),
        }
        if self._end is not None:
            jobs["looking when the certificate ends"] = self._end.run()
        for number, authenticator in enumerate(self._authenticators):
            jobs[f"preparing authenticator {number}"] = authenticator.prepare()
        try:
            await self.jobs.run(jobs)
        finally:
            await self._last_known.write()

    async def _follow_config(self) -> None:
        if self.options.config_file is None:
            return
        in_force, rejected = self.options.config, ""
        async for _ in changes(self.options.config_file):
            try:
                config = load_config(self.options.config_file)
            except ConfigError as error:
                if str(error) != rejected:
                    rejected = str(error)
                    self.counters.add(metrics.CONFIG_RELOADS, "rejected")
                    text = printable(rejected, limit=1000)
                    _LOG.warning("%s (the last good authorization stays in use)", text)
                continue
            rejected = ""
            if config == in_force:
                continue
            in_force = config
            self.counters.add(metrics.CONFIG_RELOADS, "applied")
            self.authorization.policy = config.authorization
            self.server.status_readers = config.status_readers
            self.server.reauthorize()
            if self.admin.gate is not None:
                self.admin.gate.readers = config.admin_readers
            _LOG.info(
                "the configuration changed: authorization, admin_readers and status_readers apply; "
                "the rest at a restart"
            )

    async def drain(self) -> None:
        """Say "not ready", end the streams one by one, stop xDS."""
        self.counters.set(metrics.READY, 0)
        seed = self.options.seed
        await self.server.drain(self.options.drain_s, Random(seed))

    async def stop(self) -> None:
        """Stop everything now."""
        self.counters.set(metrics.READY, 0)
        await self.server.stop()
        await self.admin.stop()
        for authenticator in self._authenticators:
            await authenticator.close()

    @property
    def admin_url(self) -> str:
        """Where the admin pages are."""
        host = "" if self.admin_address.host else "localhost"
        return f"{self.admin.scheme}://{host}{self.admin_address}"


async def serve(
    options: ServeOptions, sources: Sequence[NamedFactory], announce: Callable[[str], None]
) -> None:
    """Run a control plane until SIGTERM or SIGINT; a second signal cuts the draining short.

    Args:
        options: what it is told.
        sources: where snapshots come from.
        announce: gets one line when xDS is answered, with the addresses.

    Raises:
        ConfigError: an option that can't work.
        DiscoveryError: a source ended or failed.
        JobError: a background job did.
    """
    plane = ControlPlane(options)
    with Collector(plane.counters, asyncio.get_running_loop().time):
        await _run(plane, sources, announce)


async def _run(
    plane: ControlPlane, sources: Sequence[NamedFactory], announce: Callable[[str], None]
) -> None:
    options = plane.options
    signals = _Signals()
    await plane.start()
    names = ", ".join(name for name, _ in sources)
    _LOG.info(
        "listening for xDS on %s and admin on %s; nothing is answered before: %s",
        plane.xds_address,
        plane.admin_url,
        names,
    )
    following = asyncio.create_task(plane.follow(sources))
    try:
        await _until(following, plane.store.synced.wait(), signals.first.wait())
        if plane.store.synced.is_set():
            announce(f"trimtab: serving xDS on {plane.xds_address}, admin on {plane.admin_url}")
        await _until(following, signals.first.wait())
        streams = len(plane.server.streams)
        _LOG.info("draining %d streams over %g s", streams, options.drain_s)
        await _until(None, plane.drain(), signals.second.wait())
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await plane.stop()
        signals.close()
    _LOG.info("stopped")


async def _until(
    following: asyncio.Task[None] | None, *others: Coroutine[Any, Any, object]
) -> None:
    """Wait for the first of them; the others end. An exception of the first is raised."""
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(other) for other in others]
    watched = [*tasks, following] if following else tasks
    try:
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Signals:
    """SIGTERM and SIGINT as events: the first asks for an orderly end, the second for a quick one."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._received)

    def close(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
