"""A child's side of the talk with the demo: messages in on stdin, out on stdout, one per line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from trimtab.demo.messages import Failed, Message

LONGEST_LINE = 4 * 1024 * 1024


class Conversation:
    """Reads messages of one union type and writes any."""

    def __init__(self, reader: asyncio.StreamReader, kind: Any) -> None:
        self._reader = reader
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        self._encode = msgspec.json.Encoder().encode

    def tell(self, message: Message) -> None:
        """Write one message at once."""
        sys.stdout.buffer.write(self._encode(message) + b"\n")
        sys.stdout.buffer.flush()

    async def messages(self) -> AsyncIterator[Any]:
        """Yield what the demo says, until it ends or is gone."""
        while line := await self._reader.readline():
            yield self._decoder.decode(line)


def converse(kind: Any, talk: Callable[[Conversation], Awaitable[None]]) -> None:
    """Run ``talk`` as this process's whole work.

    Ctrl-C in a terminal goes to the demo alone, which then ends its children in order.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def main() -> None:
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        conversation = Conversation(reader, kind)
        try:
            await talk(conversation)
        except Exception as error:
            cause = first_cause(error)
            if isinstance(cause, BrokenPipeError):  # the demo is gone
                return
            conversation.tell(Failed(f"{type(cause).__name__}: {cause}"))
            raise

    asyncio.run(main())


def first_cause(error: BaseException) -> BaseException:
    """The first error inside groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
