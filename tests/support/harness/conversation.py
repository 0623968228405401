"""How a child process and the test talk: one JSON object per line on stdin and stdout."""

import asyncio
import json
import sys


async def read_commands():
    """Commands until stdin ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            yield json.loads(line)
    finally:
        transport.close()


def tell(message):
    print(json.dumps(message), flush=True)  # noqa: T201 - stdout is the conversation
