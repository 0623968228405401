"""The test's end of a conversation with a child process (the other end: ``conversation``)."""

import json
import threading

from harness.process import Process

ANSWER_WITHIN_S = 40


class Talk:
    """Starts a process, sends it commands and finds its answers."""

    def __init__(self, name, command, **process):
        self._answers = []
        self._report = None
        self._news = threading.Condition()
        self.process = Process(name, command, on_line=self._take, **process)

    @property
    def report(self):
        """The newest message with a field ``report``; these replace each other."""
        with self._news:
            return self._report

    def forget_report(self):
        with self._news:
            self._report = None

    def say(self, **command):
        self.process.write(json.dumps(command))

    def answer(self, *, within=ANSWER_WITHIN_S, **expected):
        """Wait for the message that has these fields."""

        def look():
            return next((m for m in self._answers if expected.items() <= m.items()), None)

        with self._news:
            found = self._news.wait_for(look, timeout=within)
            if found is None:
                raise AssertionError(
                    f"{self.process.name}: no answer {expected} within {within:g} s\n"
                    f"{self.process.tail()}"
                )
            self._answers.remove(found)
            return found

    def stop(self):
        self.process.end_of_input()

    def _take(self, line):
        try:
            message = json.loads(line)
        except ValueError:
            return  # not ours; shown with the process's other lines
        with self._news:
            if "report" in message:
                self._report = message["report"]
            else:
                self._answers.append(message)
            self._news.notify_all()
