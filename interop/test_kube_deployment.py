"""The manifests of ``deploy/kubernetes`` on a real API server, and ``trimtab serve`` as they say."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from harness.client import Road
from harness.container import INSTALLED, SYSTEM, Container, may_become
from harness.control_plane import ControlPlane, free_addresses
from harness.kube import manifests
from harness.kube.account import READ
from harness.kube.api import Api, RefusedError
from harness.manifests import Manifests
from harness.process import Process
from harness.python_clients import native_client
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"
DOCKERFILE = Path(__file__).parents[1] / "deploy" / "Dockerfile"


def the(kind):
    """The one object of that kind in the manifests."""
    (found,) = (d for d in manifests.documents() if d["kind"] == kind)
    return found


@pytest.fixture
def installed(cluster):
    """Everything applied. A field that Kubernetes doesn't know fails here."""
    for document in manifests.documents():
        cluster.api.admin.apply(document)
    return cluster.api


@pytest.fixture
def account(installed):
    """The API as trimtab's ServiceAccount sees it, and its token."""
    token = installed.admin.token(manifests.ACCOUNT, manifests.NAMESPACE)
    context = installed.credentials.anonymous_context()
    return Api(installed.address, context, token), token


def of_image(instruction):
    """What the Dockerfile says by its only such instruction."""
    (found,) = re.findall(rf"^{instruction} (.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    return found


def image(root, **more):
    """A container as the Dockerfile and the Deployment make it."""
    context = the("Deployment")["spec"]["template"]["spec"]["securityContext"]
    user = context["runAsUser"], context["runAsGroup"]
    assert of_image("USER") == "{}:{}".format(*user)
    environment = dict(pair.split("=") for pair in of_image("ENV").split())
    environment |= more.pop("environment", {})
    root.mkdir()
    return Container(root, user, environment=environment, **more)


@pytest.fixture
def in_pod(installed, account, started, tmp_path):
    """``trimtab`` with the arguments of the Deployment, as in its container."""
    (container,) = the("Deployment")["spec"]["template"]["spec"]["containers"]
    mounted = tmp_path / "serviceaccount"
    mounted.mkdir()
    (mounted / "token").write_text(account[1])
    (mounted / "namespace").write_text(manifests.NAMESPACE)
    (mounted / "ca.crt").write_bytes(Path(installed.credentials.authority).read_bytes())
    host, port = installed.address.split(":")
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    made = image(tmp_path / "root", mounts={MOUNTED: mounted}, environment=environment)
    command = made.command(*json.loads(of_image("ENTRYPOINT")), *container["args"])

    class Pod:
        def __init__(self):
            self.process = Process("trimtab in its pod", command)
            self.ports = {p["name"]: p["containerPort"] for p in container["ports"]}

        def probe(self, which):
            """What a kubelet's probe of that name gets: status and text."""
            get = container[which]["httpGet"]
            return self.get(self.ports[get["port"]], get["path"])

        def get(self, port, path):
            try:
                with urllib.request.urlopen(f"http://10.77.0.9:{port}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()
            except OSError as error:
                return 0, f"{error}\n{self.process.tail()}"

        def wait_ready(self):
            def look():
                status, text = self.probe("readinessProbe")
                return status == 200 or Unmet(text)

            eventually(look, within=20, what="the readiness probe succeeds")

        def stop(self):
            self.process.kill()

    pod = started(Pod())
    pod.wait_ready()
    return pod


def test_trimtab_runs_under_exactly_the_rights_that_it_is_given(
    in_pod, orders_pods, space, started
):
    assert in_pod.probe("livenessProbe")[0] == 200
    (port,) = the("Service")["spec"]["ports"]
    address = f"10.77.0.9:{in_pod.ports[port['targetPort']]}"
    server = {"server_uri": address, "channel_creds": [{"type": "insecure"}]}
    server["server_features"] = ["xds_v3"]
    bootstrap = json.dumps({"xds_servers": [server], "node": {"id": "native"}})
    client = started(native_client(bootstrap))
    with client.load({"native": Road(f"xds:///{space.cluster()}")}, rate=50) as load:
        load.comes_from(*orders_pods)
        space.open("c")
        load.comes_from(*orders_pods, "c")
    metrics = in_pod.get(in_pod.ports["admin"], "/metrics")[1]
    assert re.search(r"^trimtab_kube_watches_total\{.*\} [1-9]", metrics, re.MULTILINE), metrics
    failures = re.findall(
        r"^trimtab_kube_failures_total.*|^trimtab_nacks.* [1-9].*", metrics, re.MULTILINE
    )
    assert not [line for line in failures if not line.endswith((" 0", " 0.0"))]


def assert_without_rights(pid):
    """That a process has the container's user, where tests can give it, and no capability."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    if may_become(65532):
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65532"}
        assert not status["Groups"].strip()


def test_trimtab_runs_as_the_containers_user_without_any_right(in_pod):
    assert_without_rights(in_pod.process.pid)


def test_nothing_can_be_written_in_the_container(tmp_path):
    places = [*SYSTEM[:1], "/", *INSTALLED]
    made = image(tmp_path / "root")
    for place in places:
        done = subprocess.run(
            made.command("touch", f"{place}/x"),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert "Read-only file system" in done.stderr, (place, done)


def test_manifests_are_followed_in_the_container_too(tmp_path, started):
    written = Manifests(tmp_path / "manifests")
    written.path.mkdir()
    written.write("orders", "shop", [])
    made = image(tmp_path / "root", mounts={"/manifests": written.path})
    plane = started(ControlPlane(free_addresses(), "/manifests", inside=made.command()))
    plane.start()
    assert plane.endpoints("late.shop:8080") is None
    written.write("late", "shop", [])
    eventually(lambda: plane.endpoints("late.shop:8080"), within=5, what="the new file is read")
    assert_without_rights(plane.pid)
    assert plane.terminate() == 0


def test_the_rights_are_to_read_services_slices_and_pods_and_no_more(account):
    api, _ = account
    (service, *_) = api.all("Service")
    assert api.all("EndpointSlice")
    api.all("Pod")
    for kind in ("Secret", "ConfigMap", "Node", "Namespace"):
        with pytest.raises(RefusedError, match="forbidden"):
            api.all(kind)
    with pytest.raises(RefusedError, match="forbidden"):
        api.delete({**service, "kind": "Service"})
    assert {verb for rule in the("ClusterRole")["rules"] for verb in rule["verbs"]} == set(READ)


def test_the_pods_pass_the_strictest_of_the_pod_security_standards(installed):
    labels = the("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    template = the("Deployment")["spec"]["template"]
    metadata = {**template["metadata"], "name": "trial", "namespace": manifests.NAMESPACE}
    trial = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    made = installed.admin.create(trial, dry_run=True)
    (container,) = made["spec"]["containers"]
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert mounts[MOUNTED]["readOnly"]
    trial["spec"] = {**template["spec"], "hostNetwork": True}
    with pytest.raises(RefusedError, match="PodSecurity"):
        installed.admin.create(trial, dry_run=True)


def test_the_service_and_the_selectors_find_the_pods():
    spec = the("Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    assert the("Service")["spec"]["selector"].items() <= labels
    assert spec["selector"]["matchLabels"].items() <= labels
    assert spec["replicas"] == 2
