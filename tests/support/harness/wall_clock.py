"""A wall clock that a test sets, for processes that run under libfaketime (Debian's package)."""

from pathlib import Path

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
SEEN_WITHIN_S = 1  # the processes look at the file so often


class WallClock:
    """The clock of every process that is started with its environment. Monotonic clocks go on as ever.

    Args:
        file: where the processes read what it says.
    """

    def __init__(self, file):
        self._file = file
        self.set(0)

    def set(self, ahead_s):
        """It is so far ahead of the real one from now on."""
        draft = self._file.with_name(f"{self._file.name}.draft")
        draft.write_text(f"{ahead_s:+d}\n")
        draft.replace(self._file)

    @property
    def env(self):
        assert LIBRARIES, "libfaketime is not installed (Debian: apt-get install libfaketime)"
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(SEEN_WITHIN_S),
            "DONT_FAKE_MONOTONIC": "1",
        }
