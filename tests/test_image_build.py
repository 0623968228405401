"""``interop/image/build`` where it is interrupted, and where its sources change meanwhile; its tools are stand-ins."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# buildah's layers, and what it unpacks, are directories that nobody may write to.
TOOLS = {
    "buildah": """
        made=("$2/layer")
        for part; do case $part in type=local,dest=*) made+=("${part#*dest=}");; esac; done
        case " $* " in *" build "*)
          for place in "${made[@]}"; do mkdir -p "$place/usr/local"; chmod 555 "$place"; done;; esac
        case " $* " in *"$FAIL_AT"*) exit 130;; esac
    """,
    "mmdebstrap": 'touch "${@: -2:1}"; eval "$MEANWHILE"',
    "python3.13": """
        if [[ $1 = -c ]]; then echo 3.13; exit; fi
        mkdir -p deploy/dist; touch deploy/dist/trimtab-1-py3-none-any.whl
    """,
    "runc": "",
    "apt-get": "",
}
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@pytest.fixture
def build(tmp_path):
    """Runs it on a small copy of the project; says its exit code."""
    tree, tools = tmp_path / "tree", tmp_path / "tools"
    for name in ("interop/image", ".ci", "deploy"):
        shutil.copytree(ROOT / name, tree / name)
    for name in ("docs/guides/kubernetes.md", "pyproject.toml", "README.md", "LICENSE"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / "src").mkdir()
    (tree / "src" / "what").write_text("good")
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}")
        (tools / name).chmod(0o755)

    def run(*, fail_at="nowhere", meanwhile=":"):
        command = [tree / "interop" / "image" / "build"]
        if os.geteuid() == 0:
            command = [*WITHOUT_RIGHTS, *command]
        path = f"{tools}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "FAIL_AT": fail_at, "MEANWHILE": meanwhile}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    run.tree = tree
    return run


@pytest.mark.parametrize("step", ["python.Dockerfile", "type=local"])
def test_what_an_interrupted_build_left_is_made_anew_by_the_next(build, step):
    assert build(fail_at=step)[0] != 0
    code, said = build()
    assert code == 0, said


def test_an_image_of_sources_that_changed_meanwhile_is_not_taken_for_that_of_the_old_ones(build):
    changed = build.tree / "src" / "what"
    assert build(meanwhile=f"echo bad > {changed}")[0] == 0
    changed.write_text("good")
    code, said = build()
    assert code == 0
    assert "the image built" in said
