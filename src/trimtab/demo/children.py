"""The demo's cast: servers, load processes and the control plane, as the demo sees them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from trimtab.demo.messages import Answer, Answers, FromLoad, FromServer, Message, Serving
from trimtab.demo.processes import ANSWER_WITHIN_S, Child, Talker


class ServerChild(Talker):
    """A server process.

    Attributes:
        received: requests since it opened.
        in_flight: those that are there now.
    """

    kind = FromServer

    def __init__(self, index: int) -> None:
        super().__init__(f"server {index + 1}")
        self.index = index
        self.received = 0
        self.in_flight = 0

    def forget(self) -> None:
        """Begin a new phase."""
        self.received = self.in_flight = 0

    def took(self, message: Message) -> bool:
        """Take ``Serving``."""
        if isinstance(message, Serving):
            self.received, self.in_flight = message.received, message.in_flight
            return True
        return False


class LoadChild(Talker):
    """A load process.

    Attributes:
        answers: the requests of this phase that have ended.
        failed: how many of them failed.
    """

    kind = FromLoad

    def __init__(self, share: int) -> None:
        super().__init__(f"load process {share + 1}")
        self.share = share
        self.answers: list[Answer] = []
        self.failed = 0

    def forget(self) -> None:
        """Begin a new phase."""
        self.answers.clear()
        self.failed = 0

    def took(self, message: Message) -> bool:
        """Take ``Answers``."""
        if isinstance(message, Answers):
            self.answers.extend(message.answers)
            self.failed += sum(answer.failed for answer in message.answers)
            return True
        return False


READY_LINE = re.compile(r"serving xDS on (?P<xds>\S+:\d+), admin on (?P<admin>\S+:\d+)")


class ControlPlane(Child):
    """``trimtab serve``, as a user would start it, on free ports."""

    def __init__(self) -> None:
        super().__init__("control plane")
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(self, manifests: Path) -> None:
        """Start it on a directory of manifests."""
        await self.start(
            "trimtab.demo.tether",
            *("serve", "--manifests", str(manifests)),
            *("--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain", "0"),
        )

    async def ready(self) -> str:
        """Where its xDS server listens, once it does."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._ready
        except TimeoutError:
            raise self.failure(f"not ready within {ANSWER_WITHIN_S:g} s") from None

    def noted(self, line: str) -> None:
        """Look for the line that says where it listens."""
        super().noted(line)
        found = READY_LINE.search(line)
        if found and not self._ready.done():
            self._ready.set_result(found["xds"])
