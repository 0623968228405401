"""A command as a container runs it: a root of its own, another user, no right to anything.

Where a test may not become that user (its user namespace doesn't have it), the user stays.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import trimtab

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")
LIVE = ("/proc", "/dev")
# What is installed, at the places that it knows itself by.
INSTALLED = (sys.base_prefix, sys.prefix, str(Path(trimtab.__file__).parents[1]))


@dataclass(frozen=True)
class Container:
    """What a container is made of.

    Attributes:
        root: an empty directory, which becomes the root.
        user: the numbers of the user and the group.
        mounts: further directories, by where they are seen.
        writable: empty places that everybody may write to, as an ``emptyDir`` is.
        environment: all of it, but for PATH; there is no HOME.
    """

    root: Path
    user: tuple[int, int]
    mounts: dict[str, Path] = field(default_factory=dict)
    writable: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *inside):
        """What runs a command inside, or what to put before it.

        ``trimtab`` is found there as after ``pip install``.
        """
        script = "\n".join([*self._script(), self._run()])
        return ["unshare", "--mount", "sh", "-euc", script, "sh", *inside]

    def _script(self):
        yield "umask 022"
        yield f"mount -t tmpfs -o mode=755 none {self._at('')}"
        for path in SYSTEM:
            if Path(path).is_symlink():
                yield f"ln -s {Path(path).readlink()} {self._at(path)}"
            elif Path(path).exists():
                yield from self._mount(path, path)
        for path in dict.fromkeys(INSTALLED):
            if not path.startswith(SYSTEM):
                yield from self._mount(path, path)
        for path, source in self.mounts.items():
            yield from self._mount(source, path)
        for path in self.writable:
            yield f"mkdir -p {self._at(path)}; mount -t tmpfs -o mode=777 none {self._at(path)}"
        for path in LIVE:
            yield f"mkdir {self._at(path)}; mount --rbind {path} {self._at(path)}"
        yield f"mount -o remount,ro {self._at('')}"

    def _mount(self, source, path):
        at = self._at(path)
        yield f"mkdir -p {at}"
        yield f"mount --bind {shlex.quote(str(source))} {at}"
        yield f"mount -o remount,bind,ro {at}"

    def _run(self):
        environment = {"PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        environment |= self.environment
        rights = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        if may_become(self.user[0]):
            rights += [f"--reuid={self.user[0]}", f"--regid={self.user[1]}", "--clear-groups"]
        command = ["env", "-i", *(f"{k}={v}" for k, v in environment.items())]
        command += ["chroot", self.root, "setpriv", *rights]
        return f'exec {shlex.join(map(str, command))} "$@"'

    def _at(self, path):
        return shlex.quote(f"{self.root}{path}")


def may_become(user):
    """Whether a process here can have that user's number."""
    ranges = (
        map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()
    )
    return any(first <= user < first + count for first, _, count in ranges)
