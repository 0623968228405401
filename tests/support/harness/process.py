"""One child process: its lines, its end."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections import deque

KEPT_LINES = 2000
SHOWN_LINES = 60
END_WITHIN_S = 30
LAST_WORDS_S = 3


class Process:
    """Runs a command; collects the lines of stdout and stderr as they come.

    A child that reads its stdin ends with it, so that nothing outlives a test run that was killed.
    """

    def __init__(self, name, command, *, env=None, cwd=None, on_line=None):
        self.name = name
        self._on_line = on_line
        self._lines = deque(maxlen=KEPT_LINES)
        self._errors = deque(maxlen=SHOWN_LINES)  # which many lines of stdout would push out
        self._news = threading.Condition()
        self._child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=cwd,
            env={"PYTHONFAULTHANDLER": "1", **os.environ, **(env or {})},
        )
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, which), daemon=True)
            for which, pipe in (("out", self._child.stdout), ("err", self._child.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def running(self):
        return self._child.poll() is None

    @property
    def pid(self):
        return self._child.pid

    def write(self, line):
        self._child.stdin.write(line + "\n")

    def expect(self, pattern, *, within):
        """The match of the first line, of stdout or stderr, that fits ``pattern``."""
        found = None

        def look():
            nonlocal found
            found = next((m for line in self._lines if (m := re.search(pattern, line))), None)
            return found or not self.running

        with self._news:
            self._news.wait_for(look, timeout=within)
        if not found:
            state = "is running" if self.running else f"ended with {self._child.returncode}"
            raise AssertionError(
                f"{self.name}: no line like {pattern!r} within {within:g} s; it {state}\n{self.tail()}"
            )
        return found

    def tail(self):
        with self._news:
            shown = list(self._lines)[-SHOWN_LINES:]
            errors = [line for line in self._errors if line not in shown]
        return "\n".join(f"    {line}" for line in (*errors, *shown))

    def freeze(self):
        """SIGSTOP: it does nothing more, and keeps its connections."""
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self):
        """SIGCONT."""
        self._child.send_signal(signal.SIGCONT)

    def kill(self):
        """SIGKILL, and wait."""
        return self._end(signal.SIGKILL)

    def terminate(self, within=END_WITHIN_S):
        """SIGTERM, and wait for an orderly end. Returns the exit code."""
        return self._end(signal.SIGTERM, within)

    def end_of_input(self, within=END_WITHIN_S):
        """Close its stdin, and wait for an orderly end. Returns the exit code."""
        return self._end(None, within)

    def _end(self, number, within=END_WITHIN_S):
        if number is not None and self.running:
            self._child.send_signal(number)
        with contextlib.suppress(BrokenPipeError):  # it ended first
            self._child.stdin.close()
        try:
            code = self._child.wait(within)
        except subprocess.TimeoutExpired:
            self._last_words()
            raise AssertionError(
                f"{self.name}: did not end in {within:g} s\n{self.tail()}"
            ) from None
        finally:
            for reader in self._readers:
                reader.join()
            self._child.stdout.close()
            self._child.stderr.close()
        return code

    def _last_words(self):
        """Where each thread of a Python process is stuck, on stderr; then the end."""
        self._child.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(LAST_WORDS_S)
        self._child.kill()
        for reader in self._readers:  # its words may still be on their way
            reader.join(LAST_WORDS_S)
        self._child.wait()
        for reader in self._readers:
            reader.join()

    def _read(self, pipe, which):
        for raw in pipe:
            line = raw.rstrip("\n")
            if which == "out" and self._on_line is not None:
                self._on_line(line)
            with self._news:
                self._lines.append(line)
                if which == "err":
                    self._errors.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()
