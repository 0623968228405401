"""The manifests of ``deploy/kubernetes``, as users apply them."""

from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[4] / "deploy" / "kubernetes"
NAMESPACE, ACCOUNT = "trimtab-system", "trimtab"


def documents():
    """Every object, in the order of the kustomization."""
    files = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    texts = ((FOLDER / file).read_text() for file in files)
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def install_access(admin):
    """What ``trimtab serve`` needs of a cluster that runs it elsewhere: its account and rights."""
    wanted = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    for document in documents():
        if document["kind"] in wanted:
            admin.apply(document)
