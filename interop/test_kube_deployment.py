"""The manifests of ``deploy/kubernetes`` on a real API server, and the image run as they say."""

import json
import re
import ssl
import urllib.error
import urllib.request
from itertools import count
from pathlib import Path

import pytest

from certificates import Authority
from harness.client import Road
from harness.container import Container, assert_without_rights
from harness.deploy_tools import DEPLOY, kustomized
from harness.kube import manifests, objects
from harness.kube.api import Api, RefusedError
from harness.python_clients import trimtab_client
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"
# Every harness.container is.
RUN_WITH = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_ADDRESS = "10.77.0.9"
_numbers = count(1)


def the(kind, documents=None):
    """The one object of that kind in the manifests that is named after trimtab."""
    documents = documents or manifests.documents()
    (found,) = (d for d in documents if d["kind"] == kind and _is_trimtab_s(d))
    return found


def _is_trimtab_s(document):
    return document["kind"] == "Namespace" or document["metadata"]["name"] == manifests.ACCOUNT


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


@pytest.fixture
def authority():
    """Who issues the Secret that the Deployment mounts."""
    return Authority()


@pytest.fixture
def variant(request):
    """The objects that the pod is of: the manifests', or those of the variant that a test names."""
    folder = getattr(request, "param", None)
    return kustomized(DEPLOY / folder) if folder else manifests.documents()


def volumes(variant, authority, directory):
    """What the Deployment's volumes hold, as directories, by the volumes' names."""
    found = {}
    for volume in the("Deployment", variant)["spec"]["template"]["spec"]["volumes"]:
        if "emptyDir" in volume:
            continue
        found[volume["name"]] = place = directory / f"volume-{volume['name']}"
        place.mkdir()
        if "configMap" in volume:
            config = the("ConfigMap", variant)
            assert volume["configMap"]["name"] == config["metadata"]["name"]
            content = {name: text.encode() for name, text in config["data"].items()}
        else:
            assert volume["secret"]["secretName"] == "trimtab-tls"
            chain, key = authority.issue(address=POD_ADDRESS)
            content = {"tls.crt": chain, "tls.key": key, "ca.crt": authority.pem}
        for name, data in content.items():
            (place / name).write_bytes(data)
    return found


@pytest.fixture
def in_pod(variant, installed, account, authority, started, tmp_path):
    """The image with what the Deployment says of its container; no program but Python is in it."""
    spec = the("Deployment", variant)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"] == RUN_WITH
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    mounted = tmp_path / "serviceaccount"
    mounted.mkdir()
    (mounted / "token").write_text(account[1])
    (mounted / "namespace").write_text(manifests.NAMESPACE)
    (mounted / "ca.crt").write_bytes(Path(installed.credentials.authority).read_bytes())
    host, port = installed.address.split(":")
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    filled = volumes(variant, authority, tmp_path)
    places = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    mounts = {MOUNTED: mounted} | {places[name]: source for name, source in filled.items()}
    writable = tuple(path for name, path in places.items() if name not in filled)
    made = Container(
        tmp_path / "container",
        user=(spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]),
        mounts=mounts,
        writable=writable,
        environment=environment,
        programs=False,
    )
    unchecked = ssl.create_default_context()  # as a kubelet asks
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE

    class Pod:
        def __init__(self):
            self.since = installed.audited(manifests.ACCOUNT, manifests.NAMESPACE)[1]
            self.process = made.start(*container["args"])
            self.ports = {p["name"]: p["containerPort"] for p in container["ports"]}

        def probe(self, which):
            """What a kubelet's probe of that name gets: status and text."""
            get = container[which]["httpGet"]
            return self.get(get["port"], get["path"], scheme=get.get("scheme", "HTTP").lower())

        def get(self, port, path, *, scheme="https", token=None):
            url = f"{scheme}://{POD_ADDRESS}:{self.ports[port]}{path}"
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            request = urllib.request.Request(url, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=5, context=unchecked) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()
            except OSError as error:
                return 0, f"{error}\n{self.process.tail()}"

        def requests(self):
            """What it has asked the API server for since it was started."""
            account = (manifests.ACCOUNT, manifests.NAMESPACE)
            return installed.audited(*account, since=self.since)[0]

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


@pytest.fixture
def client(in_pod, installed, authority, space, started, tmp_path):
    """A client in the namespace of the Service ``orders``, with the token of its own account."""
    name = f"client-{next(_numbers)}"
    installed.admin.create(objects.service_account(name, space.name))
    token, ca = tmp_path / "client-token", tmp_path / "client-ca"
    token.write_text(installed.admin.token(name, space.name, audience="trimtab"))
    ca.write_bytes(authority.pem)
    (port,) = the("Service")["spec"]["ports"]
    server = {
        "server_uri": f"{POD_ADDRESS}:{in_pod.ports[port['targetPort']]}",
        "channel_creds": [{"type": "tls", "config": {"ca_certificate_file": str(ca)}}],
        "call_creds": [{"type": "jwt_token_file", "config": {"jwt_token_file": str(token)}}],
        "server_features": ["xds_v3"],
    }
    return started(trimtab_client(json.dumps({"xds_servers": [server], "node": {"id": name}})))


@pytest.fixture
def load(client, space):
    """Begins the client's requests."""
    return lambda: client.load({"trimtab": Road(f"xds:///{space.cluster()}")}, rate=50)


def test_a_client_with_a_token_is_served_and_failures_are_not_counted(
    in_pod, orders_pods, space, load
):
    assert in_pod.probe("livenessProbe")[0] == 200
    with load() as requests:
        requests.comes_from(*orders_pods)
        space.open("c")
        requests.comes_from(*orders_pods, "c")
    metrics = in_pod.get("admin", "/metrics")[1]
    assert re.search(r"^trimtab_kube_watches_total\{.*\} [1-9]", metrics, re.MULTILINE), metrics
    failures = re.findall(
        r"^trimtab_kube_failures_total.*|^trimtab_nacks.* [1-9].*", metrics, re.MULTILINE
    )
    assert not [line for line in failures if not line.endswith((" 0", " 0.0"))]
    for port in ("xds", "admin"):
        assert f'trimtab_insecure_listener{{port="{port}"}} 0' in metrics


def allowed(documents=None):
    """What the ClusterRole allows: group, resource and verb."""
    return {
        (group, resource, verb)
        for rule in the("ClusterRole", documents)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_what_trimtab_is_allowed_is_what_it_asks_the_api_server_for(in_pod, space, load):
    """By the API server's own audit log, with every right used: pods and tokens too."""
    space.service(annotations={"trimtab.dev/endpoint-labels": "app"})
    pods = space.open("a", "b")
    with load() as requests:
        requests.comes_from(*(pod.name for pod in pods))

        def look():
            made = {(r.group, r.resource, r.verb) for r in in_pod.requests()}
            return made == allowed() or Unmet(f"made {made}, allowed {allowed()}")

        eventually(look, within=20, what="every right is used, and nothing else is asked for")
    refused = [r for r in in_pod.requests() if not 200 <= r.status < 300]
    assert not refused


@pytest.mark.parametrize(
    ("variant", "scheme", "is_open"),
    [("mtls", "https", 0), ("plaintext", "http", 1)],
    indirect=["variant"],
)
def test_the_variants_run_under_their_rights(in_pod, variant, scheme, is_open):
    assert in_pod.probe("livenessProbe")[0] == 200
    metrics = in_pod.get("admin", "/metrics", scheme=scheme)[1]
    for port in ("xds", "admin"):
        assert f'trimtab_insecure_listener{{port="{port}"}} {is_open}' in metrics
    assert {(r.group, r.resource, r.verb) for r in in_pod.requests()} <= allowed(variant)
    can_review = ("authentication.k8s.io", "tokenreviews", "create") in allowed(variant)
    assert can_review == (not is_open)


def test_the_admin_pages_open_to_the_reader_s_token_and_to_no_other(in_pod, installed, account):
    reader = ("trimtab-reader", manifests.NAMESPACE)
    good = installed.admin.token(*reader, audience="trimtab")
    api = installed.admin.token(*reader)
    own = installed.admin.token(manifests.ACCOUNT, manifests.NAMESPACE, audience="trimtab")
    page = "/api/v1/clusters"
    assert in_pod.get("admin", page, token=good)[0] == 200
    for token, status in ((None, 401), (api, 401), (account[1], 401), (own, 403)):
        assert in_pod.get("admin", page, token=token)[0] == status
    assert in_pod.get("admin", "/metrics")[0] == 200


def test_what_is_known_is_kept_where_the_deployment_says(in_pod):
    def look():
        metrics = in_pod.get("admin", "/metrics")[1]
        assert 'trimtab_state_writes_total{result="failed"} 0\n' in metrics
        written = re.search(
            r'^trimtab_state_writes_total\{result="written"\} (.*)', metrics, re.MULTILINE
        )
        return float(written[1]) > 0 or Unmet("0")

    eventually(look, within=30, what="the state file is written")


def test_trimtab_runs_as_the_containers_user_without_any_right(in_pod):
    assert_without_rights(in_pod.process.pid)


def test_sigterm_ends_the_pod_within_its_grace_while_a_client_is_served(in_pod, orders_pods, load):
    with load() as requests:
        requests.comes_from(*orders_pods)
        grace = the("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert in_pod.process.terminate(within=grace) == 0


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
    assert all("Secret" not in resource for _, resource, _ in allowed())
    assert {verb for *_, verb in allowed()} == {"list", "watch", "create"}
    assert [resource for _, resource, verb in allowed() if verb == "create"] == ["tokenreviews"]


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
    scaler = the("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == the("Deployment")["metadata"]["name"]
    assert scaler["minReplicas"] == 2
    assert "replicas" not in spec  # each apply would set a grown fleet back
