"""Where the programs are that ``interop/kube/build`` makes."""

import os
from pathlib import Path

BUILT = Path(__file__).parents[4] / ".cache" / "kube"


def binary(name):
    """The path of ``etcd``, ``kube-apiserver`` or ``kube-controller-manager``."""
    path = Path(os.environ.get("KUBE_BINARIES") or BUILT) / name
    if not path.exists():
        raise AssertionError(f"there is no {path}: `make interop` (interop/kube/build) builds it")
    return path
