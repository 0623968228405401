"""The API server of the cluster that one runs in, as the pod's service account."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trimtab.discovery.kubernetes.access import ApiServer
from trimtab.discovery.kubernetes.credentials import TokenFile
from trimtab.discovery.kubernetes.tls import Pem, Tls
from trimtab.errors import ConfigError

FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def is_in_cluster(environ: Mapping[str, str], folder: Path = FOLDER) -> bool:
    """Whether this is a pod with a service account's token."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (folder / "token").exists()


def in_cluster(environ: Mapping[str, str], folder: Path = FOLDER) -> ApiServer:
    """The way to the own cluster's API server.

    Args:
        environ: the process's environment.
        folder: where the service account's files are mounted.

    Raises:
        ConfigError: this is no pod, or its service account is not mounted.
    """
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError(
            "--in-cluster: KUBERNETES_SERVICE_HOST is not set, so this is no pod; "
            "outside a cluster give --kubeconfig FILE"
        )
    for name in ("token", "ca.crt"):
        if not (folder / name).exists():
            raise ConfigError(
                f"--in-cluster: {folder / name} is not there; set automountServiceAccountToken: true "
                "in the pod"
            )
    namespace = folder / "namespace"
    account = "the pod's service account"
    return ApiServer(
        name="in-cluster",
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        origin=account,
        credentials=TokenFile(folder / "token", account),
        tls=Tls(Pem(f"{account}: certificate authority", path=folder / "ca.crt")),
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
    )
