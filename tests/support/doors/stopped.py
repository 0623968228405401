"""A client process whose callers call all the time, and which is itself stopped for a while."""

import json
import sys

from harness.process import Process
from harness.waiting import pause


class StoppedClient:
    """It says what came of its calls at each line of its input.

    Args:
        script: what it runs.
        arguments: the script's.
        answers: under what name it lists who answered.
    """

    def __init__(self, script, arguments, answers):
        self._answers = answers
        self._told = []
        self._process = Process(
            f"client, {arguments}",
            [sys.executable, "-c", script, *arguments],
            on_line=lambda line: self._told.append(json.loads(line)),
        )

    def heard(self):
        """What came of its calls since it was last asked."""
        before = len(self._told)
        self._process.write("tell")
        while len(self._told) == before:
            assert self._process.running, self._process.tail()
            pause()
        return self._told[-1]

    def stop_once_served_by(self, servers):
        """Returns what was heard last."""
        heard = self.heard()
        while set(servers) - set(heard[self._answers]):
            pause()
            heard = self.heard()
        self._process.freeze()
        return heard

    def go_on(self):
        self._process.thaw()

    def end(self):
        self._process.thaw()
        self._process.end_of_input()
