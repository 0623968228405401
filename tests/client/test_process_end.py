"""A process that ends with open channels and requests in flight: soon, and without a word."""

import pytest

from doors.leaving import LEAVE, ended
from doors.servers import Servers
from harness.waiting import measured

pytestmark = pytest.mark.processes

SOON_S = 2

THREADS = """
import sys, threading
import trimtab
channel = trimtab.insecure_channel("orders", endpoints=[sys.argv[1]])
say = channel.unary_unary("/trimtab.test.Echo/Say")
hold = bytes([0x18, 1])
say(b"", timeout=20)
call = say.future(hold)
stream = channel.unary_stream("/trimtab.test.Echo/Count")(bytes([0x10, 1, 0x18, 1]))
next(stream)
threading.Thread(target=say, args=[hold], daemon=True).start()
"""
LOOP = """
import asyncio, sys
import trimtab.aio
async def main():
    channel = trimtab.aio.insecure_channel("orders", endpoints=[sys.argv[1]])
    say = channel.unary_unary("/trimtab.test.Echo/Say")
    hold = bytes([0x18, 1])
    await say(b"", timeout=20)
    calls = [say(hold), asyncio.create_task(awaited(say(hold)))]
    stream = channel.unary_stream("/trimtab.test.Echo/Count")(bytes([0x10, 1, 0x18, 1]))
    async for _ in stream:
        break
    return channel, calls, stream
async def awaited(call):
    return await call
"""
PROGRAMS = {
    "threads": THREADS + LEAVE,
    "threads, declared": THREADS.replace("argv[1]]", "argv[1]], retry=trimtab.Retry(attempts=2)")
    + LEAVE,
    "loop, returned from": LOOP + "kept = asyncio.run(main())" + LEAVE,
    "loop, in the middle": LOOP
    + """
async def leave():
    kept = await main()
    await asyncio.to_thread(sys.stdin.read)
    print("leaving", flush=True)
asyncio.run(leave())
""",
    "loop, never closed": LOOP
    + """
loop = asyncio.new_event_loop()
kept = loop.run_until_complete(main())
"""
    + LEAVE,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_process_ends_at_once_and_silently_with_requests_in_flight(program, echo):
    took = []
    while not measured(took, below=SOON_S):
        took.append(seconds_to_end(program, echo))
    assert min(took) < SOON_S


def seconds_to_end(program, echo):
    """How long it takes from its last line to its end [s]; all that it says is that line."""
    servers = Servers(echo)
    server = servers.open("a")

    def held():
        return "returned" in program or server.holding == 3

    try:
        took, *end = ended(PROGRAMS[program], server.target, under_way=held)
    finally:
        servers.close()
    assert end == [0, ""]
    return took
