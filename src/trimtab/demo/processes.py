"""A child process of the demo: started, talked to, and gone when the demo is.

Each has a session of its own, so that Ctrl-C reaches the demo alone, which ends them in order; and
a pipe on its stdin, at whose end it ends too, should the demo be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from trimtab.demo.conversation import LONGEST_LINE
from trimtab.demo.messages import Failed, Message
from trimtab.errors import TrimtabError

STOP_WITHIN_S = 2.0
ANSWER_WITHIN_S = 30.0  # starting Python ten times at once on a slow machine takes a while
SHOWN_LINES = 5

M = TypeVar("M", bound=Message)


class DemoError(TrimtabError):
    """The demo can't go on; the text says which part failed and why."""


def environment(mine: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: without settings that would make it another experiment."""
    return {
        name: value
        for name, value in mine.items()
        if not name.startswith(("TRIMTAB_", "GRPC_")) and not name.lower().endswith("_proxy")
    }


class Child:
    """One process: ``python -m MODULE ...``. What it writes besides messages is kept for errors."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process: asyncio.subprocess.Process | None = None
        self._said: deque[str] = deque(maxlen=SHOWN_LINES)

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The running process."""
        if self._process is None:
            raise DemoError(f"demo: {self.name}: it was not started")
        return self._process

    async def start(self, *arguments: str) -> None:
        """Start it."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LONGEST_LINE,
            env=environment(os.environ),
        )

    async def listen(self) -> None:
        """Take in what it says for as long as it runs.

        Raises:
            DemoError: it failed or ended by itself.
        """
        output, errors = self.process.stdout, self.process.stderr
        if output is None or errors is None:
            raise self.failure("it has no output")
        async with asyncio.TaskGroup() as readers:
            keeping = readers.create_task(self._keep(errors))
            while line := await output.readline():
                self.heard(line)
            await keeping
        raise self.failure(f"it ended with exit code {await self.process.wait()}")

    def heard(self, line: bytes) -> None:
        """Take a line of its stdout."""
        self.noted(line.decode(errors="replace").rstrip())

    def noted(self, line: str) -> None:
        """Take a line that is meant for people."""
        self._said.append(line)

    async def _keep(self, errors: asyncio.StreamReader) -> None:
        while line := await errors.readline():
            self.noted(line.decode(errors="replace").rstrip())

    def failure(self, reason: str) -> DemoError:
        """What to tell the user when this process fails."""
        said = "".join(f"\n    {line}" for line in self._said)
        return DemoError(f"demo: {self.name}: {reason}" + (f"; it wrote:{said}" if said else ""))

    async def stop(self) -> None:
        """End it: by the end of its stdin, else by SIGTERM, else by SIGKILL."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_WITHIN_S):
                    await process.wait()
                    return


class Talker(Child):
    """A child that speaks the demo's messages; one question at a time."""

    kind: Any = Message

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.kind)
        self._answer: asyncio.Future[Message] | None = None

    def tell(self, message: Message) -> None:
        """Send it a message."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(msgspec.json.encode(message) + b"\n")

    async def ask(self, message: Message, answer: type[M], within: float = ANSWER_WITHIN_S) -> M:
        """Send it a message and wait for the answer, while ``listen`` runs.

        Raises:
            DemoError: none came in time, or another one.
        """
        self._answer = asyncio.get_running_loop().create_future()
        self.tell(message)
        try:
            async with asyncio.timeout(within):
                heard = await self._answer
        except TimeoutError:
            raise self.failure(
                f"no {answer.__name__} to {type(message).__name__} within {within:g} s"
            ) from None
        if not isinstance(heard, answer):
            raise self.failure(f"{type(heard).__name__} to {type(message).__name__}")
        return heard

    def heard(self, line: bytes) -> None:
        """Take one message."""
        message: Message = self._decoder.decode(line)
        if isinstance(message, Failed):
            raise self.failure(message.reason)
        if not self.took(message) and self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    def took(self, message: Message) -> bool:  # noqa: ARG002 - for those that have news
        """Take a message that answers no question; False if it is none."""
        return False
