"""A process that ends while much is under way: how long that takes, and what it says."""

import subprocess
import sys

from harness.waiting import Deadline, eventually

LEAVE = """
sys.stdin.read()
print("leaving", flush=True)
"""


def ended(script, *arguments, under_way):
    """Run a script until so much is under way, then let it end: the seconds that took, its status, its errors.

    Args:
        script: reads its input to the end and then says "leaving", as its last line.
        under_way: whether it may end now.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(under_way, within=30, what="enough is under way")
        process.stdin.close()
        assert process.stdout.readline() == "leaving\n", process.stderr.read()
        leaving = Deadline(30)
        process.wait(30)
        return leaving.elapsed, process.returncode, process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
