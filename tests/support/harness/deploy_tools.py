"""Helm and kubectl as ``interop/deploy/build`` makes them, on what ``deploy/`` holds."""

import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "trimtab"
_TOOLS = ROOT / ".cache" / "deploy"
KUBECTL = _TOOLS / "kubectl"
PROMQL = _TOOLS / "promql"


class Helm:
    """The command ``helm``, with its files in a directory of its own.

    Args:
        home: that directory.
        kubeconfig: of the cluster it may talk to; None: none.
    """

    def __init__(self, home, kubeconfig=None):
        self._env = {f"HELM_{kind}_HOME": str(home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        self._env["KUBECONFIG"] = str(kubeconfig or home / "none")

    def run(self, *arguments):
        """Exit code and all that it printed."""
        done = _run("helm", *arguments, env=self._env)
        return done.returncode, done.stdout + done.stderr

    def succeed(self, *arguments):
        """What it printed to stdout."""
        done = _run("helm", *arguments, env=self._env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def objects(self, *options, chart=CHART, release="trimtab", namespace="trimtab-system"):
        """What the chart makes with these options."""
        where = ("--namespace", namespace)
        return documents(self.succeed("template", release, chart, *where, *options))


def definitions():
    """The resource definitions of the operators whose objects ``deploy/`` has."""
    files = sorted((_TOOLS / "definitions").glob("*.yaml"))
    return [document for file in files for document in documents(file.read_text())]


def kustomized(folder):
    """What ``kubectl apply -k`` would apply."""
    done = _run("kubectl", "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def documents(text):
    """The objects of a stream of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document]


def _run(tool, *arguments, env=None):
    path = _TOOLS / tool
    assert path.exists(), f"{path} is not there: run interop/deploy/build"
    return subprocess.run(
        [path, *map(str, arguments)],
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
