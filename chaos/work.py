"""Numbered work: servers that write down what they execute and get SIGKILL meanwhile, and callers that count."""

import asyncio
import os
import signal
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

import trimtab

ROOT = Path(__file__).parents[1]
PLAIN, AGAIN = "Do", "DoAgain"
SERVERS, CALLERS, KILL_EVERY_S, DEADLINE_S = 6, 64, 1.0, 5.0
REST_S = (0.005, 0.02)
WATCHED = 5  # one call in so many
NUMBER = struct.Struct("<Q")


async def passed(seconds: float) -> None:
    """Let so much time pass."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(seconds, over.set_result, None)
    await over


class Work:
    """What a server does, whatever the protocol: the number stands in its file before the answer leaves."""

    def __init__(self, path: str) -> None:
        self._log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._random = Random(path)

    async def do(self, number: bytes) -> None:
        os.write(self._log, number)
        await passed(self._random.uniform(*REST_S))


class Server:
    """One server, in one life after the other at one port.

    Args:
        module: that serves as ``python -m MODULE PORT PATH``, prints its port, and ends with its input.
        path: of the numbers.
    """

    def __init__(self, module: str, path: Path) -> None:
        self._module = module
        self.path = path
        self.port = 0
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module, str(self.port), str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


class Ordered(NamedTuple):
    """A call to be made, and whether its attempts are looked at."""

    name: str
    number: int
    watched: bool


@dataclass
class Told:
    """What the client was told.

    Attributes:
        good: by method: which numbers went well.
        failed: by method: how many failed how.
        kills: of servers.
        watched: how many calls of ``PLAIN`` had their attempts looked at,
        left_again: and how many of these had more than one: they had reached nobody.
    """

    good: dict[str, set[int]] = field(default_factory=lambda: {PLAIN: set(), AGAIN: set()})
    failed: dict[str, Counter[str]] = field(
        default_factory=lambda: {PLAIN: Counter(), AGAIN: Counter()}
    )
    kills: int = 0
    watched: int = 0
    left_again: int = 0

    def add(self, call: Ordered, failure: str | None, attempts: Sequence[object]) -> None:
        """Note how a call ended, and what attempts it had if it was watched."""
        if failure is None:
            self.good[call.name].add(call.number)
        else:
            self.failed[call.name][failure] += 1
        if call.watched and call.name == PLAIN:
            self.watched += 1
            self.left_again += len(attempts) > 1


def mixed(calls: dict[str, int], random: Random) -> Iterator[Ordered]:
    """So many calls of each method, the last of them watched; numbers are even for ``PLAIN`` and odd for ``AGAIN``.

    Watched ones come last, as requests take another way through the client while anybody asks for details.
    """
    every = [(name, 2 * n + (name == AGAIN)) for name, count in calls.items() for n in range(count)]
    random.shuffle(every)
    unwatched = len(every) - len(every) // WATCHED
    return (Ordered(*each, at >= unwatched) for at, each in enumerate(every))


@contextmanager
def killing(servers: list[Server], told: Told, random: Random) -> Iterator[None]:
    """Every second or so one server is killed and started again."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(KILL_EVERY_S * random.uniform(0.5, 1.5)):
            server = random.choice(servers)
            server.kill()
            told.kills += 1
            server.start()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def call_from_tasks(
    call: Callable[[str, bytes], Awaitable[str | None]], calls: Iterator[Ordered], told: Told
) -> None:
    """Make all calls; each says how it failed, or None."""

    async def caller() -> None:
        for each in calls:
            with looking(each) as attempts:
                failure = await call(each.name, NUMBER.pack(each.number))
            told.add(each, failure, attempts)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def call_from_threads(
    call: Callable[[str, bytes], str | None], calls: Iterator[Ordered], told: Told
) -> None:
    """The same."""
    taking = threading.Lock()

    def caller() -> None:
        while True:
            with taking:
                each = next(calls, None)
            if each is None:
                return
            with looking(each) as attempts:
                failure = call(each.name, NUMBER.pack(each.number))
            with taking:
                told.add(each, failure, attempts)

    with ThreadPoolExecutor(CALLERS) as callers:
        done = [callers.submit(caller) for _ in range(CALLERS)]
    for each in done:
        each.result()


def looking(each: Ordered) -> AbstractContextManager[Sequence[object]]:
    """What has the attempts of a call that is watched; nothing for others."""
    return trimtab.call_details() if each.watched else nullcontext(())
