"""``python -m trimtab.demo.tether ARGUMENTS``: the command ``trimtab``, ended with its parent.

The parent holds the other end of stdin. When that closes, by intent or because the parent died,
this process gets SIGTERM, as it would from Kubernetes.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def end_with_stdin() -> None:
    """Wait for stdin's end. ``os.read`` holds no lock that would be missed at exit."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=end_with_stdin, daemon=True).start()
    runpy.run_module("trimtab", run_name="__main__", alter_sys=True)
