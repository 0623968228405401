"""Credentials that a program hands out, as ``kubectl`` has them: clouds' logins, mostly.

Source: client-go credential plugins, client.authentication.k8s.io v1 and v1beta1.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trimtab.discovery.kubernetes.credentials import bearer
from trimtab.errors import DiscoveryError

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EARLY_S = 10.0  # a credential that ends so soon is asked for anew
_SHOWN = 300  # characters of a program's last words
_MAX_ANSWER = 1 << 20  # bytes; a token or certificate has some thousand
_LINGER_S = 1.0  # that an ended program's output is waited for, if another one keeps it open


@dataclass(frozen=True, slots=True)
class ExecCommand:
    """What to run.

    Attributes:
        where: the field of the kubeconfig, for messages.
        command: the program; with a slash in it a path from ``folder``, else looked up in PATH.
        api_version: the form of its answer.
        args: its arguments.
        env: what is added to the environment.
        install_hint: shown if the program is not there.
        cluster: what it is told of the cluster, if it asks for that.
        folder: where the kubeconfig is.
    """

    where: str
    command: str
    api_version: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    install_hint: str = ""
    cluster: Mapping[str, Any] | None = None
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class _Credential:
    headers: Mapping[str, str]
    pair: tuple[bytes, bytes] | None
    ends: float | None  # Unix seconds


class ExecCredential:
    """Runs the program when there is no credential, when it ends, and when it was refused.

    Args:
        command: what to run.
        wall: the wall clock [Unix seconds].
        timeout_s: a program that takes longer is ended.
    """

    def __init__(
        self, command: ExecCommand, wall: Callable[[], float], *, timeout_s: float = 60.0
    ) -> None:
        self._command = command
        self._wall = wall
        self._timeout_s = timeout_s
        self._held: _Credential | None = None
        self._running = asyncio.Lock()
        self._failures = 0
        self._failure = ""  # the last run's, "" if it went well

    async def headers(self, *, refused: bool) -> Mapping[str, str]:
        """The token, if the program gives one.

        Raises:
            DiscoveryError: the program fails; the text has its last words.
        """
        before = self._held
        async with self._turn():
            if refused and self._held is before:
                self._held = None
            held = await self._current()
        return held.headers

    async def pair(self) -> tuple[bytes, bytes] | None:
        """The client certificate, if the program gives one."""
        async with self._turn():
            return (await self._current()).pair

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Several watches ask at once: one run serves all that came before it ended, or fails them.

        A program that hangs would else be waited for by each in turn.
        """
        failures = self._failures
        async with self._running:
            if self._failures != failures and self._failure:
                raise DiscoveryError(self._failure)
            yield

    async def _current(self) -> _Credential:
        held = self._held
        if held is None or (held.ends is not None and self._wall() >= held.ends - _EARLY_S):
            try:
                held = self._held = self._read(await self._run())
            except DiscoveryError as error:
                self._failures += 1
                self._failure = str(error)
                raise
            self._failure = ""
        return held

    async def _run(self) -> bytes:
        command = self._command
        spec: dict[str, Any] = {"interactive": False}
        if command.cluster is not None:
            spec["cluster"] = command.cluster
        asked = {"kind": "ExecCredential", "apiVersion": command.api_version, "spec": spec}
        told = json.dumps(asked, default=str)  # what YAML made a date of becomes text again
        environment = {**os.environ, **command.env, "KUBERNETES_EXEC_INFO": told}
        program = command.command
        if "/" in program:
            program = str(command.folder / program)
        answer = _Answer()
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: answer,
                program,
                *command.args,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # without a terminal it can't ask a person
            )
        except (OSError, ValueError) as error:
            hint = f"; {command.install_hint.strip()}" if command.install_hint else ""
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise DiscoveryError(
                f"{command.where}.command: {program!r} cannot be run: {why}{hint}"
            ) from None
        try:
            async with asyncio.timeout(self._timeout_s):
                await answer.ended.wait()
        except TimeoutError:
            raise DiscoveryError(
                f"{command.where}: {program!r} gave no answer within {self._timeout_s:g} s; it must "
                "not wait for a person"
            ) from None
        finally:
            if transport.get_returncode() is None:
                with contextlib.suppress(ProcessLookupError):
                    # With all that it started: a script's commands would go on without it.
                    os.killpg(transport.get_pid(), signal.SIGKILL)
                await answer.exited.wait()
            transport.close()
        if len(answer.output) > _MAX_ANSWER:
            raise DiscoveryError(
                f"{command.where}: {program!r} printed more than {_MAX_ANSWER} bytes; it must print "
                "an ExecCredential and nothing else"
            )
        status = transport.get_returncode()
        if status:
            words = answer.errors.decode(errors="replace").strip()[-_SHOWN:]
            raise DiscoveryError(
                f"{command.where}: {program!r} ended with {status}: {words or 'no words'}"
            )
        return bytes(answer.output)

    def _read(self, output: bytes) -> _Credential:
        """What the program printed; its secrets never stand in an error."""
        where = f"{self._command.where}: the answer of {self._command.command!r}"
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            raise DiscoveryError(f"{where} is no JSON; it must print an ExecCredential") from None
        if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
            raise DiscoveryError(f"{where} is no ExecCredential")
        if answer.get("apiVersion") != self._command.api_version:
            raise DiscoveryError(
                f"{where} has apiVersion {str(answer.get('apiVersion'))[:60]!r}; the kubeconfig says "
                f"{self._command.api_version!r}"
            )
        status = answer.get("status")
        if not isinstance(status, dict):
            raise DiscoveryError(f"{where} has no status")
        token = status.get("token") or ""
        certificate = status.get("clientCertificateData") or ""
        key = status.get("clientKeyData") or ""
        if not all(isinstance(value, str) for value in (token, certificate, key)):
            raise DiscoveryError(f"{where}: status: token, certificate and key must be text")
        if bool(certificate) != bool(key) or not (token or certificate):
            raise DiscoveryError(
                f"{where}: status: give a token, or clientCertificateData with clientKeyData"
            )
        pair = (certificate.encode(), key.encode()) if certificate else None
        headers = bearer(token, f"{where}: status.token") if token else {}
        return _Credential(headers, pair, self._ends(where, status.get("expirationTimestamp")))

    def _ends(self, where: str, text: object) -> float | None:
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(str(text))
        except ValueError:
            raise DiscoveryError(
                f"{where}: status.expirationTimestamp: {str(text)[:60]!r} is no RFC 3339 time"
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class _Answer(asyncio.SubprocessProtocol):
    """What a program prints, up to a limit, until it and its output have ended."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.errors = bytearray()
        self.exited = asyncio.Event()
        self.ended = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.output += data
            if len(self.output) > _MAX_ANSWER:
                self.ended.set()
        else:
            self.errors += data
            del self.errors[: -4 * _SHOWN]  # the last words, of up to four bytes a character

    def process_exited(self) -> None:
        self.exited.set()
        # A program that it left behind, such as an agent, may hold the output open for ever.
        loop = asyncio.get_running_loop()
        self._linger = loop.call_later(_LINGER_S, self.ended.set)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        if self._linger is not None:
            self._linger.cancel()
        self.ended.set()
