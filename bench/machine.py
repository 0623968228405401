"""What a benchmark ran on, and where its table goes: one line of facts under every table."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """Cores, processor, kernel, Python and the versions of the packages that matter."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    versions = "".join(f", {name} {version(name)}" for name in packages)
    return (
        f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, "
        f"Python {platform.python_version()}{versions}"
    )


def command() -> str:
    """The command as a reader would type it."""
    script = Path(sys.argv[0]).resolve()
    if script.parent.name == "bench":
        return shlex.join(["python", f"bench/{script.name}", *sys.argv[1:]])
    module = f"{script.parent.name}.{script.stem}".removesuffix(".__main__")
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def publish(title: str, body: str, path: str | None, *packages: str) -> None:
    """Print a result page; write it to ``path`` if there is one."""
    page = (
        f"# {title}\n\n{body.strip()}\n\nCommand: `{command()}`\n\nMachine: {describe(*packages)}\n"
    )
    print(page)
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(page)
