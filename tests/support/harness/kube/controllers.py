"""The real endpointslice controller: it writes the slices of Services that have a selector."""

from harness.kube.binaries import binary
from harness.ports import free_port
from harness.process import Process


class Controllers:
    """kube-controller-manager with the one controller that needs no kubelet.

    Args:
        kubeconfig: the administrator's.
        directory: for the certificate that it makes for itself.
    """

    def __init__(self, kubeconfig, directory):
        self._kubeconfig = kubeconfig
        self._directory = directory
        self._process = None

    def start(self):
        command = [
            binary("kube-controller-manager"),
            f"--kubeconfig={self._kubeconfig}",
            "--controllers=endpointslice-controller",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self._directory}",
        ]
        self._process = Process("kube-controller-manager", command)

    def stop(self):
        if self._process is not None:
            self._process.kill()
