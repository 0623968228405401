"""The variants of the manifests and the Helm chart: the same objects, all taken by a real API server."""

import re

import pytest
import yaml

from harness.control_plane import ControlPlane
from harness.deploy_tools import CHART, DEPLOY, Helm, definitions, documents, kustomized
from harness.kube import manifests
from harness.kube.account import Account
from harness.kube.api import RefusedError
from harness.waiting import Unmet, eventually

pytestmark = pytest.mark.processes

# What a chart says of itself on every object; nothing is selected by these.
SIGNED = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}
VARIANTS = {"tokens": ".", "certificates": "mtls", "nobody": "plaintext"}
VALUES = {
    "own certificates": ["tls.certManager.enabled=true"],
    "another issuer": [
        "tls.certManager.enabled=true",
        "tls.certManager.issuerRef.name=corporate",
        "tls.certManager.issuerRef.kind=ClusterIssuer",
    ],
    "monitoring": [
        "monitoring.podMonitor=true",
        "monitoring.rules=true",
        "monitoring.dashboard=true",
        "monitoring.labels.release=prometheus",
    ],
    "two namespaces": ["namespaces={shop,payments}", "podLabels=false", "selector=team=shop"],
    "no extras": [
        "autoscaling.enabled=false",
        "podDisruptionBudget.enabled=false",
        "networkPolicy.enabled=false",
        "openMetrics=false",
    ],
    "everything else": [
        "fullnameOverride=discovery",
        "image.repository=registry.example/trimtab",
        "image.tag=v1",
        "image.pullPolicy=Always",
        "imagePullSecrets[0].name=pull",
        "adminReaders={system:serviceaccount:ops:*}",
        "config.limits.connections=100",
        "extraArgs={--log-level=debug,--drain=10}",
        "priorityClassName=system-cluster-critical",
        "nodeSelector.pool=system",
        "tolerations[0].operator=Exists",
        "podAnnotations.a=b",
        "stateSize=1Gi",
    ],
}


def options(*values):
    return [part for value in values for part in ("--set", value)]


@pytest.fixture
def helm(tmp_path):
    return Helm(tmp_path)


@pytest.fixture(scope="session")
def api(kube_session):
    """The API server's administrator, with the operators' kinds and some namespaces."""
    admin = kube_session.api.admin
    for document in definitions():
        admin.apply(document)
    for name in (manifests.NAMESPACE, "shop", "payments"):
        admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for kind in ("Certificate", "Issuer", "PodMonitor", "PrometheusRule"):

        def known(kind=kind):
            try:
                return isinstance(admin.all(kind), list)
            except RefusedError as error:
                return Unmet(str(error))

        eventually(known, within=20, what=f"{kind} is known")
    return admin


def named(objects):
    """Without what a chart signs, by kind and name."""
    found = {(o["kind"], o["metadata"]["name"]): unsigned(o) for o in objects}
    assert len(found) == len(objects)
    return found


def unsigned(value):
    if isinstance(value, dict):
        kept = {k: unsigned(v) for k, v in value.items() if k not in SIGNED}
        if text := kept.get("config.yaml"):
            kept["config.yaml"] = yaml.safe_load(text)
        return kept
    return [unsigned(item) for item in value] if isinstance(value, list) else value


def test_the_chart_passes_helm_s_lint(helm):
    code, text = helm.run("lint", "--strict", CHART)
    assert code == 0, text


@pytest.mark.parametrize("clients", VARIANTS)
def test_the_chart_makes_what_the_manifests_are(helm, clients):
    variant = named(kustomized(DEPLOY / VARIANTS[clients]))
    del variant["Namespace", manifests.NAMESPACE]  # helm's --create-namespace
    values = [] if clients == "tokens" else options(f"clients={clients}")
    assert named(helm.objects(*values)) == variant


def test_a_packaged_chart_makes_the_same_objects(helm, tmp_path):
    """Some of its files are links into ``deploy/monitoring``; a package holds their content."""
    everything = options(*VALUES["monitoring"])
    helm.succeed("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("trimtab-*.tgz")
    assert named(helm.objects(*everything, chart=package)) == named(helm.objects(*everything))


def test_the_chart_s_rules_and_certificates_are_those_of_the_manifests(helm):
    made = named(helm.objects(*options(*VALUES["own certificates"], *VALUES["monitoring"][:2])))
    certificate = documents((DEPLOY / "certificate.yaml").read_text())
    for document in [*certificate, *kustomized(DEPLOY / "monitoring")]:
        assert made[document["kind"], document["metadata"]["name"]] == unsigned(document)


def test_the_manifests_as_they_stand_are_the_default_variant():
    assert named(kustomized(DEPLOY)) == named(manifests.documents())


@pytest.mark.parametrize("folder", VARIANTS.values())
def test_the_api_server_takes_every_variant(api, folder):
    for document in kustomized(DEPLOY / folder):
        api.apply(document, dry_run=True)


def test_the_api_server_takes_what_operators_are_told(api):
    certificate = documents((DEPLOY / "certificate.yaml").read_text())
    for document in [*certificate, *kustomized(DEPLOY / "monitoring")]:
        api.apply(document, dry_run=True)


def test_the_api_server_takes_the_objects_of_the_security_page(api):
    page = (DEPLOY.parent / "docs" / "guides" / "security.md").read_text()
    found = [
        document
        for block in re.findall(r"```yaml\n(apiVersion:.*?)```", page, re.DOTALL)
        for document in documents(block)
    ]
    assert {document["kind"] for document in found} == {"Certificate", "NetworkPolicy"}
    for document in found:
        document["metadata"]["namespace"] = "shop"  # which there is
        api.apply(document, dry_run=True)


def test_a_field_that_no_kind_has_is_refused(api):
    (monitor,) = documents((DEPLOY / "monitoring" / "pod-monitor.yaml").read_text())
    monitor["spec"]["podMetricsEndpoints"][0]["tlsConfg"] = {}
    with pytest.raises(RefusedError, match="tlsConfg"):
        api.apply(monitor, dry_run=True)


@pytest.mark.parametrize("title", VALUES)
def test_the_api_server_takes_what_the_chart_makes(api, helm, title):
    for document in helm.objects(*options(*VALUES[title])):
        api.apply(document, dry_run=True)


@pytest.mark.parametrize(
    ("value", "named_in_error"),
    [
        ("clients=token", "clients"),
        ("replica=3", "replica"),
        ("autoscaling.minReplicas=0", "minReplicas"),
        ("namespaces={Shop}", "namespaces"),
        ("extraArgs={xds}", "extraArgs"),
        ("config.admin_readers={x}", "admin_readers"),
    ],
)
def test_a_value_that_is_wrong_is_refused_by_its_name(helm, value, named_in_error):
    code, text = helm.run("template", "trimtab", CHART, *options(value))
    assert code != 0
    assert named_in_error in text


def test_every_value_is_in_the_schema_and_takes_effect():
    """A value that no template reads would promise what it doesn't do."""
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    for name in yaml.safe_load((CHART / "values.yaml").read_text()):
        assert re.search(rf"\.Values\.{name}\b", templates), name


def test_limiting_the_namespaces_limits_the_rights(helm):
    made = helm.objects(*options("namespaces={shop,payments}", "podLabels=false"))
    (whole,) = (o for o in made if o["kind"] == "ClusterRole")
    assert [rule["resources"] for rule in whole["rules"]] == [["tokenreviews"]]
    roles = [o for o in made if o["kind"] == "Role"]
    assert {role["metadata"]["namespace"] for role in roles} == {"shop", "payments"}
    for role in roles:
        assert [r["resources"] for r in role["rules"]] == [["services"], ["endpointslices"]]


def test_limited_to_a_namespace_trimtab_asks_for_what_it_is_allowed_there_and_no_more(
    api, cluster, space, helm, addresses, started, tmp_path
):
    made = helm.objects(*options(f"namespaces={{{space.name}}}"), release="narrow")
    for document in made:
        if document["kind"].startswith(("Role", "ServiceAccount")):
            api.apply(document)
    account = Account(cluster.api, "narrow", manifests.NAMESPACE, tmp_path)
    account.write_token()
    space.service(annotations={"trimtab.dev/endpoint-labels": "app"})
    wanted = ["--kubeconfig", account.kubeconfig, "--namespace", space.name]
    plane = started(ControlPlane(addresses, None, options=[str(part) for part in wanted]))
    plane.start()
    (role,) = (o for o in made if o["kind"] == "Role")
    allowed = {
        (rule["apiGroups"][0], rule["resources"][0], verb)
        for rule in role["rules"]
        for verb in rule["verbs"]
    }

    def look():
        asked, _ = cluster.api.audited("narrow", manifests.NAMESPACE)
        assert {f"/namespaces/{space.name}/" in a.uri for a in asked} <= {True}
        assert {a.status for a in asked} <= {200}
        found = {(a.group, a.resource, a.verb) for a in asked}
        return found == allowed or Unmet(f"asked {found}, allowed {allowed}")

    eventually(look, within=20, what="every right is used, and nothing else is asked for")


def test_the_chart_is_installed_upgraded_and_removed(cluster, tmp_path):
    credentials = cluster.api.credentials
    helm = Helm(tmp_path, credentials.admin_kubeconfig(cluster.api.url))
    where = ["--namespace", "edge-system"]
    notes = helm.succeed("install", "edge", CHART, *where, "--create-namespace")
    assert "edge.edge-system:18000" in notes
    assert "create token edge-reader --audience trimtab" in notes
    admin = cluster.api.admin
    args = deployed(admin)["args"]
    assert "--token-audience=trimtab" in args
    assert "--insecure" not in args
    notes = helm.succeed("upgrade", "edge", CHART, *where, *options("clients=nobody"))
    assert "NOTHING IS PROTECTED" in notes
    container = deployed(admin)
    assert "--insecure" in container["args"]
    assert container["livenessProbe"]["httpGet"]["scheme"] == "HTTP"
    helm.succeed("rollback", "edge", "1", *where)
    assert deployed(admin)["args"] == args
    helm.succeed("uninstall", "edge", *where)
    with pytest.raises(RefusedError, match="404"):
        admin.get("ClusterRole", "edge")


def deployed(admin):
    (container,) = admin.get("Deployment", "edge", "edge-system")["spec"]["template"]["spec"][
        "containers"
    ]
    return container
