"""Packets of a TCP port that the kernel drops or refuses, within a network of the tests' own."""

import contextlib
import shutil
import subprocess

# Which of the packets of a server's port are lost, by the direction.
WAYS = {"to": ("d",), "from": ("s",), "both ways": ("d", "s")}


def lost(way, port, share=1, *, host="0.0.0.0/0"):
    """While this lasts, packets ``to`` the server, ``from`` it, or ``both ways`` are lost: all, or a share of them."""
    by_chance = (
        [] if share == 1 else ["-m", "statistic", "--mode", "random", "--probability", f"{share}"]
    )
    return _rules(
        [[f"-{s}", host, f"--{s}port", str(port), *by_chance, "-j", "DROP"] for s in WAYS[way]]
    )


def rejected(port):
    """While this lasts, each packet to the server is answered with RST."""
    return _rules([["--dport", str(port), "-j", "REJECT", "--reject-with", "tcp-reset"]])


@contextlib.contextmanager
def _rules(matches):
    if shutil.which("iptables") is None:
        raise AssertionError("iptables is not installed (Debian: apt-get install iptables)")
    with contextlib.ExitStack() as rules:
        for match in matches:
            rule = ["INPUT", "-p", "tcp", *match]
            subprocess.run(["iptables", "-A", *rule], check=True)
            rules.callback(subprocess.run, ["iptables", "-D", *rule], check=True)
        yield
