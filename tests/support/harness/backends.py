"""The servers of a test, all in one process of their own."""

import sys
from pathlib import Path

from harness.manifests import Pod
from harness.talk import Talk

SUPPORT = Path(__file__).parent.parent


class Backends:
    """Opens and closes echo servers; ``python`` is another interpreter for them."""

    def __init__(self, *, python=None):
        command = [python or sys.executable, "-m", "harness.echo_process"]
        self._talk = Talk("servers", command, cwd=SUPPORT)

    def open(self, *names, zone="z1"):
        """Start servers; a Pod for each."""
        for name in names:
            self._talk.say(do="open", name=name, addresses=["127.0.0.1:0"])
        return [Pod(n, self._talk.answer(opened=n)["port"], zone=zone) for n in names]

    def open_slow(self, name, *, by_ms, zone="z1"):
        """Start a server that takes so much longer than it is asked to."""
        self._talk.say(do="open", name=name, addresses=["127.0.0.1:0"], slower_ms=by_ms)
        return Pod(name, self._talk.answer(opened=name)["port"], zone=zone)

    def open_failing(self, name):
        """Start a server that answers every request with UNAVAILABLE."""
        self._talk.say(do="open", name=name, addresses=["127.0.0.1:0"], failing=True)
        return Pod(name, self._talk.answer(opened=name)["port"])

    def open_http1(self, *names):
        """Start HTTP/1.1 servers; a Pod for each."""
        return [self.open_with(name, http1=True) for name in names]

    def open_with(self, name, *, port=0, zone="z1", **how):
        """Start a server; ``how``: what ``Echo`` takes."""
        self._talk.say(do="open", name=name, addresses=[f"127.0.0.1:{port}"], **how)
        return Pod(name, self._talk.answer(opened=name)["port"], zone=zone)

    @property
    def process(self):
        """Theirs, for signals."""
        return self._talk.process

    def open_at(self, name, *addresses):
        """Start a server at addresses (``HOST:PORT``) of the test's choice."""
        self._talk.say(do="open", name=name, addresses=addresses)
        self._talk.answer(opened=name)

    def close(self, name, *, grace=5):
        """Stop a server as a well-behaved pod does. Returns how many requests were cut off."""
        self._talk.say(do="close", name=name, grace=grace)
        return self._talk.answer(closed=name)["cut_off"]

    def close_all(self):
        """Stop all servers at once; the process can open others."""
        self._talk.say(do="close_all")
        self._talk.answer(all_closed=True)

    def stop(self):
        self._talk.stop()
