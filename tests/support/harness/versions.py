"""Other versions to run beside this one: earlier ones of trimtab, and the oldest libraries it takes."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def source_of(revision, directory):
    """The directory of the package's sources as they were at a revision of this repository.

    A copy without that history has none: that skips the test, and fails it in CI.
    """
    command = ["git", "-C", ROOT, "archive", revision, "src"]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        why = f"no {revision} in this copy's history (git fetch --unshallow): {archive.stderr.decode()}"
        if os.environ.get("CI"):
            raise AssertionError(why)
        pytest.skip(why)
    subprocess.run(["tar", "-x", "-C", directory], input=archive.stdout, check=True)
    return Path(directory) / "src"


def oldest_python():
    """The Python of a virtual environment with the oldest releases that pyproject.toml allows."""
    python = ROOT / ".cache" / "oldest" / "bin" / "python"
    if not python.exists():
        raise AssertionError(f"there is no {python}: `make test` puts it there")
    return python
