"""The image that ``deploy/Dockerfile`` makes: what is in it, and what it does without."""

import json
import urllib.request

import pytest

import trimtab
from harness.container import IMAGE, Container, assert_without_rights, image_config
from harness.control_plane import free_addresses
from harness.deploy_tools import DEPLOY, documents
from harness.manifests import Manifests
from harness.waiting import eventually

pytestmark = pytest.mark.processes

WRITE = """
import sys
for place in sys.argv[1:]:
    try:
        open(place + "/x", "w")
    except OSError as error:
        print(place, error.strerror, sep=": ")
"""


@pytest.fixture
def container(tmp_path):
    return Container(tmp_path / "container")


def test_the_image_is_of_this_version(container):
    code, said = container.run("--version")
    assert (code, said) == (0, f"trimtab {trimtab.__version__}\n")


def test_by_itself_it_reads_the_cluster_that_it_is_in(container):
    code, said = container.run()
    assert code != 0
    assert "--in-cluster: KUBERNETES_SERVICE_HOST is not set, so this is no pod" in said


def test_its_user_is_the_deployment_s_and_has_no_name():
    text = (DEPLOY / "kubernetes" / "30-deployment.yaml").read_text()
    ((deployment,)) = documents(text)
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert image_config()["User"] == "{runAsUser}:{runAsGroup}".format(**context)
    users = (IMAGE / "root" / "etc" / "passwd").read_text().splitlines()
    assert str(context["runAsUser"]) not in {user.split(":")[2] for user in users}


def test_of_trimtab_it_holds_the_package_and_nothing_else():
    (record,) = (IMAGE / "root").glob(
        "usr/local/lib/python3*/*-packages/trimtab-*.dist-info/RECORD"
    )
    files = [line.split(",")[0] for line in record.read_text().splitlines()]
    others = {file for file in files if file.split("/")[0] not in {"trimtab", record.parent.name}}
    assert len(files) > 300
    assert others == {"../../../bin/trimtab"}
    assert not [file for file in files if file.startswith("trimtab/tests/") or "/test_" in file]
    assert not [*(IMAGE / "root" / "tmp").iterdir()]
    assert not [*(IMAGE / "root").rglob("*.whl")]


def test_nothing_can_be_written_in_the_container(container):
    places = ("", "/tmp", "/usr/local/bin", "/var/lib", "/var/tmp")
    code, said = container.run("-c", WRITE, *places, entrypoint=["python"])
    assert code == 0
    assert said.splitlines() == [f"{place}: Read-only file system" for place in places]


def test_no_program_but_python_is_needed(tmp_path):
    """``interop/test_kube_deployment.py`` runs all that it runs without the others."""
    with_all = Container(tmp_path / "with-all").run("-c", "true", entrypoint=["sh"])
    assert with_all == (0, "")
    bare = Container(tmp_path / "bare", programs=False)
    code, said = bare.run("-c", "true", entrypoint=["sh"])
    assert code != 0
    assert "executable file not found" in said
    assert Container(tmp_path / "bare-too", programs=False).run("--version")[0] == 0


def test_manifests_are_followed_in_the_container_too(tmp_path, started):
    written = Manifests(tmp_path / "manifests")
    written.path.mkdir()
    written.write("orders", "shop", [])
    made = Container(tmp_path / "container", mounts={"/manifests": written.path}, programs=False)
    at = free_addresses()
    plane = started(
        made.start("serve", "--manifests=/manifests", f"--xds={at.xds}", f"--admin={at.admin}")
    )
    plane.expect("serving xDS on", within=60)

    def known():
        with urllib.request.urlopen(f"http://{at.admin}/api/v1/clusters", timeout=20) as answer:
            return {cluster["name"] for cluster in json.load(answer)["clusters"]}

    assert "late.shop:8080" not in known()
    written.write("late", "shop", [])
    eventually(lambda: "late.shop:8080" in known(), within=20, what="the new file is read")
    assert_without_rights(plane.pid)
    assert plane.terminate() == 0
