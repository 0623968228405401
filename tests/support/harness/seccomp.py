"""The system calls that container runtimes allow, as Kubernetes' ``RuntimeDefault`` says it."""

import json
import platform
from pathlib import Path

# Of Debian's golang-github-containers-common, which buildah needs: the profile of Podman and CRI-O.
PROFILE = Path("/usr/share/containers/seccomp.json")
ARCHITECTURES = {"x86_64": ("SCMP_ARCH_X86_64", "amd64"), "aarch64": ("SCMP_ARCH_AARCH64", "arm64")}


def without_capabilities():
    """``linux.seccomp`` of the runtime's specification, for a container that has no capability."""
    profile = json.loads(PROFILE.read_text())
    architecture, name = ARCHITECTURES[platform.machine()]
    (known,) = (a for a in profile["archMap"] if a["architecture"] == architecture)
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [architecture, *known["subArchitectures"]],
        "syscalls": [_rule(s) for s in profile["syscalls"] if _applies(s["includes"], name)],
    }


def _applies(condition, architecture):
    if condition.get("caps"):
        return False
    return architecture in condition.get("arches", [architecture])


def _rule(said):
    return {key: said[key] for key in ("names", "action", "args", "errnoRet") if said.get(key)}
