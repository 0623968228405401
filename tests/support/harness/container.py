"""The image that ``deploy/Dockerfile`` makes, run by runc: its own root, user and processes, no right to anything.

``interop/image/build`` builds the image. Where a test may not become its user (its user namespace
doesn't have it), the user stays.
"""

import json
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from harness import seccomp
from harness.process import Process

IMAGE = Path(__file__).parents[3] / ".cache" / "image"
PROGRAMS = ("/usr/bin", "/usr/sbin")  # /bin and /sbin are links to them
PYTHON = "python3"
# As containerd has them.
SYSTEM = [
    ("/proc", "proc", []),
    ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
]
MASKED = [f"/proc/{name}" for name in ("acpi", "kcore", "keys", "latency_stats", "timer_list")]
UNCHANGEABLE = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]
END_WITHIN_S = 60


def image_config():
    """What the image says beside its files, such as ``User`` and ``Entrypoint``."""
    path = IMAGE / "image.json"
    assert path.exists(), f"{path} is not there: run interop/image/build"
    return json.loads(path.read_text())["OCIv1"]["config"]


@dataclass(frozen=True)
class Container:
    """What a container of the image is made of.

    Attributes:
        directory: an empty directory, for what runc is told.
        user: the numbers of the user and the group; None: the image's.
        mounts: further directories, by where they are seen.
        writable: empty places that everybody may write to, as an ``emptyDir`` is.
        environment: further environment variables.
        programs: whether the base's programs are there; otherwise Python is the only one, and there is no shell.
        name: no other's on this machine, as cgroups have it.
    """

    directory: Path
    user: tuple[int, int] | None = None
    mounts: dict[str, Path] = field(default_factory=dict)
    writable: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    programs: bool = True
    name: str = field(default_factory=lambda: f"trimtab-test-{uuid.uuid4()}")

    def start(self, *arguments):
        """Runs the image's entry point with these arguments, or the image's own where there are none."""
        return Running(self, arguments)

    def run(self, *arguments, entrypoint=None):
        """The same to its end, or another entry point: exit code and all that it said."""
        done = subprocess.run(
            self.command(arguments, entrypoint),
            capture_output=True,
            text=True,
            timeout=END_WITHIN_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def command(self, arguments, entrypoint=None):
        """What makes the container and waits for its end."""
        config = image_config()
        inside = [*(entrypoint or config["Entrypoint"]), *(arguments or config["Cmd"])]
        self.directory.mkdir()
        (self.directory / "config.json").write_text(json.dumps(self._specification(config, inside)))
        return [*self.runc("run"), "--bundle", str(self.directory), self.name]

    def runc(self, *command):
        # Rootless: it does without cgroups where it may not make them.
        return ["runc", "--root", str(self.directory / "runc"), "--rootless=true", *command]

    def _specification(self, config, command):
        uid, gid = self.user or map(int, config["User"].split(":"))
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": gid} if may_become(uid) else {"uid": 0, "gid": 0},
                "args": command,
                "env": [*config["Env"], *environment],
                "cwd": config.get("WorkingDir", "/"),
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "root": {"path": str(IMAGE / "root"), "readonly": True},
            "mounts": [*self._mounts()],
            "linux": {
                # Of the network the test's own: a pod's address is one of its addresses.
                "namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts")],
                "maskedPaths": MASKED,
                "readonlyPaths": UNCHANGEABLE,
                "seccomp": seccomp.without_capabilities(),
            },
        }

    def _mounts(self):
        for place, kind, options in SYSTEM:
            yield {"destination": place, "type": kind, "source": kind, "options": options}
        for place, source in (self._without_programs() | self.mounts).items():
            yield _bound(place, source)
        for place in self.writable:
            empty = self._new_directory(place)
            empty.chmod(0o777)
            yield _bound(place, empty, "rw")

    def _without_programs(self):
        if self.programs:
            return {}
        covers = {place: self._new_directory(place) for place in PROGRAMS}
        shutil.copy(IMAGE / "root" / "usr" / "bin" / PYTHON, covers["/usr/bin"] / PYTHON)
        return covers

    def _new_directory(self, place):
        made = self.directory / place.replace("/", "-")
        made.mkdir()
        return made


class Running(Process):
    """A container's first process. How it is killed goes through runc, which waits for it and passes signals on."""

    def __init__(self, container, arguments):
        self._container = container
        super().__init__("trimtab in its container", container.command(arguments))

    @property
    def pid(self):
        """As the test sees it; in its container it is 1."""
        return json.loads(self._runc("state"))["pid"]

    def kill(self):
        """SIGKILL to all that is in the container, and wait."""
        self._runc("delete", "--force")  # which outlives a runc that was killed
        return super().kill()

    def stop(self):
        """The same."""
        self.kill()

    def _runc(self, *command):
        done = subprocess.run(
            self._container.runc(*command, self._container.name),
            capture_output=True,
            text=True,
            timeout=END_WITHIN_S,
            check=True,
        )
        return done.stdout


def may_become(user):
    """Whether a process here can have that user's number."""
    ranges = (
        map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()
    )
    return any(first <= user < first + length for first, _, length in ranges)


def assert_without_rights(pid):
    """That a process has the image's user, where tests can give it, no capability, and few system calls."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert status["NSpid"].split()[-1] == "1"
    if may_become(65532):
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65532"}
        assert not status["Groups"].strip()


def _bound(place, source, mode="ro"):
    options = ["rbind", mode, "nosuid", "nodev"]
    return {"destination": place, "type": "bind", "source": str(source), "options": options}
