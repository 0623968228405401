"""Background jobs that none of the others may outlive: what stopped in silence would look like peace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from trimtab.errors import TrimtabError

_LOG = logging.getLogger(__name__)


class JobError(TrimtabError):
    """A background job ended by a fault of ours; the text names it and the fault."""


class Jobs:
    """Runs them.

    Attributes:
        failed: the job that has ended by a fault, and the fault; "" while there is none.
    """

    def __init__(self) -> None:
        self.failed = ""

    async def run(self, jobs: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        """Run them all until one fails; then end the others. A job that has nothing to do may end.

        Args:
            jobs: by the names that the log and errors call them.

        Raises:
            TrimtabError: a job's own, or a ``JobError``.
        """
        tasks = [asyncio.create_task(_whole(job), name=name) for name, job in jobs.items()]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                self._look(task)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self, task: asyncio.Task[None]) -> None:
        error = task.exception()
        if error is None:
            return
        if isinstance(error, TrimtabError):
            self.failed = str(error)
            raise error
        self.failed = f"{task.get_name()} failed: {type(error).__name__}: {error}"
        _LOG.error("%s", self.failed, exc_info=error)
        raise JobError(self.failed) from error


async def _whole(job: Coroutine[Any, Any, None]) -> None:
    """Run one. Its end by a cancellation that nobody asked for is a fault, which a task would hide."""
    try:
        await job
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("what it waited for was cancelled") from error
