"""Control planes that a fault needs otherwise than as they are: with TLS, by name, with a state file."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from certificates import Authority
from harness.wall_clock import WallClock

NAME = "plane.test"
HOSTS = Path("/etc/hosts")


@dataclass(frozen=True)
class Setting:
    """How a control plane runs and how its clients reach it.

    Attributes:
        options: of ``trimtab serve``.
        host: the name or address that clients connect to.
        ca: who vouches for it; None: no TLS.
        env: of it and of its clients, but for Envoy, which doesn't start under libfaketime.
    """

    options: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    ca: Path | None = None
    env: tuple[tuple[str, str], ...] = ()


def plain(_directory):
    return Setting()


def with_tls(directory):
    """``expired.crt`` beside its certificate is one of the same key that has expired."""
    authority = Authority()
    files = {name: directory / name for name in ("ca.crt", "tls.crt", "tls.key", "expired.crt")}
    chain, key = authority.issue()
    files["ca.crt"].write_bytes(authority.pem)
    files["tls.crt"].write_bytes(chain)
    files["tls.key"].write_bytes(key)
    files["expired.crt"].write_bytes(authority.expired(key))
    options = ("--tls-cert", str(files["tls.crt"]), "--tls-key", str(files["tls.key"]))
    return Setting(options, ca=files["ca.crt"])


def by_name(directory):
    """Known by a name that only this network namespace's hosts file has."""
    hosts = directory / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {NAME}\n")
    subprocess.run(["mount", "--bind", hosts, HOSTS], check=True)
    return Setting(host=NAME)


def with_small_disk(directory):
    """Its state file is on a disk of 64 KiB."""
    disk = directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "trimtab-chaos", disk], check=True)
    return Setting(("--state", str(disk / "state")))


def with_a_clock_of_its_own(directory):
    """The wall clock of it and its clients is what ``clock`` in the directory says."""
    return Setting(env=tuple(clock(directory).env.items()))


def clock(directory):
    """Begins with the machine's."""
    return WallClock(directory / "clock")


def forget_mounts(directory):
    """Undo what a setting mounted below a directory, or over the hosts file."""
    mounts = Path("/proc/self/mounts").read_text()
    for line in mounts.splitlines():
        where = line.split()[1]
        if where.startswith(f"{directory}{os.sep}") or where == str(HOSTS):
            subprocess.run(["umount", where], check=True)
