"""Native gRPC channels that are opened and closed, no calls: ``python -m harness.open_process``."""

import asyncio

import grpc.aio

from harness.conversation import read_commands, tell


async def main():
    channels = []
    async for command in read_commands():
        await close(channels)
        channels = [grpc.aio.insecure_channel(target) for target in command["open"]]
        for channel in channels:
            # A channel asks for nothing until somebody wants to connect.
            channel.get_state(try_to_connect=True)
        tell({"opened": len(channels)})
    await close(channels)


async def close(channels):
    for channel in channels:
        await channel.close(None)


asyncio.run(main())
