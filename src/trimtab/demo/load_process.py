"""Half of the demo's clients, a process of its own: ``python -m trimtab.demo.load_process``.

Open loop: every request leaves when the schedule says so, whatever the earlier ones do, and its
latency counts from that moment.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import grpc
import grpc.aio

from trimtab.demo.channels import Channels, open_channels
from trimtab.demo.conversation import Conversation, converse
from trimtab.demo.experiment import Experiment, arrivals
from trimtab.demo.figures import percentile
from trimtab.demo.messages import Answer, Answers, Finished, Go, Learn, Prepare, Ready, ToLoad
from trimtab.demo.server_process import MEASURED, UNMEASURED

TELL_EVERY_S = 0.25
SHORTEST_TIMEOUT_S = 0.001


class Load:
    """The requests of one phase that this process sends."""

    def __init__(self, experiment: Experiment, share: int, channels: Channels) -> None:
        self._experiment = experiment
        self._channels = channels
        self._loop = asyncio.get_running_loop()
        self._due = [
            (index, arrival)
            for index, arrival in enumerate(arrivals(experiment))
            if arrival.channel % experiment.load_processes == share
        ]
        self._lags: list[float] = []
        self._ended: list[Answer] = []
        self._errors: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, start: float, conversation: Conversation) -> None:
        """Send everything, tell of it, and return when the last request has ended."""
        for index, arrival in self._due:
            at = start + arrival.at
            payload = MEASURED if self._experiment.in_window(arrival.at) else UNMEASURED
            self._loop.call_at(at, self._fire, index, arrival.channel, at, payload)
        end = start + self._experiment.phase_s
        while self._loop.time() < end or self._tasks:
            await self._pause()
            self._tell(conversation)
        self._tell(conversation)
        await self._channels.close()
        ordered = sorted(self._lags)
        conversation.tell(
            Finished(
                lag_p99_ms=round((percentile(ordered, 0.99) or 0.0) * 1e3, 2),
                lag_max_ms=round((percentile(ordered, 1.0) or 0.0) * 1e3, 2),
                errors=dict(self._errors),
            )
        )

    def _fire(self, index: int, channel: int, at: float, payload: bytes) -> None:
        self._lags.append(self._loop.time() - at)
        task = self._loop.create_task(self._request(index, channel, at, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, index: int, channel: int, at: float, payload: bytes) -> None:
        left = at + self._experiment.deadline_s - self._loop.time()
        failed = False
        try:
            await self._channels.place(channel, payload, timeout=max(left, SHORTEST_TIMEOUT_S))
        except grpc.aio.AioRpcError as error:
            failed = True
            self._errors[error.code().name] += 1
        self._ended.append(Answer(index, self._loop.time() - at, failed))

    def _tell(self, conversation: Conversation) -> None:
        conversation.tell(Answers(tuple(self._ended)))
        self._ended.clear()

    async def _pause(self) -> None:
        over = asyncio.Event()
        self._loop.call_later(TELL_EVERY_S, over.set)
        await over.wait()


async def talk(conversation: Conversation) -> None:
    """Prepare and run phases as told."""
    load: Load | None = None
    channels: Channels | None = None
    async with asyncio.TaskGroup() as phases:  # an error in a phase ends the process, and says so
        sending: asyncio.Task[None] | None = None
        async for message in conversation.messages():
            match message:
                case Prepare():
                    channels = await open_channels(message)
                    load = Load(message.experiment, message.share, channels)
                    gc.collect()
                    gc.freeze()  # a full collection in the middle would only delay requests
                    conversation.tell(Ready())
                case Go() if load is not None:
                    sending = phases.create_task(load.send(message.at, conversation))
                case Learn() if channels is not None:
                    await channels.learn(message.targets)
        if sending is not None:
            sending.cancel()


if __name__ == "__main__":
    converse(ToLoad, talk)
