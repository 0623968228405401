"""Packets of a TCP port that the kernel drops, within a network of the tests' own."""

import contextlib
import shutil
import subprocess

# Which of the packets of a server's port are lost, by the direction.
WAYS = {"to": ("dport",), "from": ("sport",), "both ways": ("dport", "sport")}


@contextlib.contextmanager
def lost(way, port):
    """While this lasts, packets ``to`` the server, ``from`` it, or ``both ways`` are lost."""
    if shutil.which("iptables") is None:
        raise AssertionError("iptables is not installed (Debian: apt-get install iptables)")
    with contextlib.ExitStack() as rules:
        for side in WAYS[way]:
            rule = ["INPUT", "-p", "tcp", f"--{side}", str(port), "-j", "DROP"]
            subprocess.run(["iptables", "-A", *rule], check=True)
            rules.callback(subprocess.run, ["iptables", "-D", *rule], check=True)
        yield
