"""Ways for a server process to fall silent."""

from doors.swallower import Swallower


class Frozen:
    """The process is stopped; the kernel goes on accepting and acknowledging."""

    def __init__(self, victim):
        self._process, self.port = victim

    def fall_silent(self):
        self._process.freeze()

    def speak(self):
        self._process.thaw()

    def close(self):
        self._process.thaw()


class CutOff:
    """The process is well, and what is on the way to it and from it is lost."""

    def __init__(self, victim):
        self._swallower = Swallower(victim[1])
        self.port = self._swallower.port

    def fall_silent(self):
        self._swallower.swallow()

    def speak(self):
        self._swallower.pass_on()

    def close(self):
        self._swallower.close()
