"""The commands of the installation and of the drills, run as they stand against a real API server."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from harness.deploy_tools import DEPLOY, KUBECTL, definitions
from harness.kube import objects
from harness.waiting import eventually

pytestmark = pytest.mark.processes

ROOT = DEPLOY.parent
PAGES = ("docs/guides/kubernetes.md", "docs/guides/security.md", "docs/operations.md")
# They need what isn't here: a container registry, kubelets, or the controllers of Deployments.
ELSEWHERE = re.compile(r"docker |pip |trimtab |export |.*(rollout (status|undo)|port-forward)")
# What they install is there already, by kubectl: only rendered. test_kube_variants.py installs.
MEANT = {"REGISTRY": "registry.example", "NODE": "node-z1", "helm install": "helm template"}


def commands():
    """Each page's commands in their order, without those that can't run here."""
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
            lines = [line.removeprefix("$ ") for line in block.splitlines()]
            yield from (line for line in lines if not ELSEWHERE.match(line))


@pytest.fixture
def shop(kube_session):
    """A namespace with the Service of the pages, and the kinds of cert-manager."""
    admin = kube_session.api.admin
    for document in definitions():
        admin.apply(document)
    for name in ("shop", "monitoring"):
        admin.apply(objects.namespace(name))
    admin.apply(objects.service("orders", "shop"))


@pytest.mark.usefixtures("shop")
def test_every_command_of_the_pages_works(kube_session, tmp_path):
    (tmp_path / "deploy").symlink_to(DEPLOY)
    credentials = kube_session.api.credentials
    kubeconfig = credentials.admin_kubeconfig(kube_session.api.url)
    env = {**os.environ, "PATH": f"{KUBECTL.parent}:{os.environ['PATH']}"}
    env |= {"KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)}

    def run(line):
        for word, meant in MEANT.items():
            line = re.sub(rf"\b{word}\b", meant, line)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode or None, line, done.stdout + done.stderr

    # The first may ask for kinds that were defined a moment ago.
    lines = [*commands()]
    assert len(lines) > 15
    certificate = next(i for i, line in enumerate(lines) if "certificate.yaml" in line)
    eventually(lambda: run(lines[certificate])[0] is None, within=20, what=lines[certificate])
    failed = [result for line in lines if (result := run(line))[0]]
    assert not failed
    token = (tmp_path / "token").read_text().strip()
    assert token.count(".") == 2


def test_a_certificate_renewed_as_the_page_says_needs_nothing_new_of_the_clients(tmp_path):
    authority, certificate = (line for line in commands() if line.startswith("openssl req"))
    subprocess.run(shlex.split(authority), cwd=tmp_path, check=True, capture_output=True)
    trusted = (tmp_path / "ca.crt").read_bytes()
    first = None
    for _ in range(2):
        subprocess.run(shlex.split(certificate), cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "tls.crt").read_bytes() != first
        first = (tmp_path / "tls.crt").read_bytes()
        assert (tmp_path / "ca.crt").read_bytes() == trusted != first
        # As strict as Python 3.13 is.
        verify = "openssl verify -x509_strict -purpose sslserver -CAfile ca.crt -verify_hostname"
        for name in ("trimtab.trimtab-system", "localhost"):  # clients', and port-forward's
            asked = [*verify.split(), name, "tls.crt"]
            done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_the_pages_name_files_that_there_are():
    for line in commands():
        for word in shlex.split(line.replace("|", " ")):
            if word.startswith("deploy/"):
                assert Path(ROOT / word).exists(), line
