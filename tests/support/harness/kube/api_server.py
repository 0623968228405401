"""A kube-apiserver that is killed, frozen and started again at the same address."""

import http.client
import json
from dataclasses import dataclass

from harness.kube.api import Api, RefusedError
from harness.kube.binaries import binary
from harness.process import Process
from harness.waiting import Unmet, eventually

READY_WITHIN_S = 60
PORT = 6443


# What ServiceAccounts ask for, once the answer has begun: a watch's end may never come.
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts"]
- level: None
"""


@dataclass(frozen=True)
class Audited:
    """A request that the API server has answered.

    Attributes:
        group: of the resource's API, "" for the core.
        resource: such as ``pods``; "" for a path that is none.
        verb: as in a role.
        status: the HTTP status.
        uri: the request's.
    """

    group: str
    resource: str
    verb: str
    status: int
    uri: str


class ApiServer:
    """One API server: TLS, no anonymous requests, RBAC, an audit log of ServiceAccounts' requests.

    Args:
        host: its address, from those of ``interop/private_network``.
        etcd: the store, running.
        credentials: its certificates and keys.
        prefix: where its objects are in the store. Servers with the same prefix and credentials
            are replicas of one.
    """

    def __init__(self, host, etcd, credentials, *, prefix="/registry"):
        self.host = host
        self.address = f"{host}:{PORT}"
        self.url = f"https://{self.address}"
        self.credentials = credentials
        self._etcd = etcd
        self._prefix = prefix
        self._certificate = self.credentials.server(host, "127.0.0.1", "kubernetes.default.svc")
        self._audit = self.credentials.authority.with_name(f"audit-{host}.log")
        self._audit_policy = self._audit.with_suffix(".yaml")
        self._audit_policy.write_text(_AUDIT_POLICY)
        self.admin = Api(self.address, self.credentials.admin_context())
        self._process = None

    def replica(self, host):
        """Another server of the same objects; not started."""
        return ApiServer(host, self._etcd, self.credentials, prefix=self._prefix)

    def start(self):
        """Start it, and return when it is ready."""
        self.start_silent()
        self.wait_ready()

    def start_silent(self):
        """Start it."""
        given = self.credentials
        options = {
            "etcd-servers": self._etcd.url,
            "etcd-prefix": self._prefix,
            "bind-address": self.host,
            "secure-port": PORT,
            "tls-cert-file": self._certificate,
            "tls-private-key-file": self._certificate,
            "client-ca-file": given.authority,
            "anonymous-auth": "false",
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": given.service_account_key,
            "service-account-signing-key-file": given.service_account_key,
            # Watches are ended by SIGTERM, not kept for a minute.
            "shutdown-watch-termination-grace-period": "1s",
            "service-cluster-ip-range": "10.96.0.0/16,fd96::/112",
            "audit-policy-file": self._audit_policy,
            "audit-log-path": self._audit,
        }
        command = [binary("kube-apiserver"), *(f"--{k}={v}" for k, v in options.items())]
        self._process = Process(f"kube-apiserver {self.address}", command)

    def wait_ready(self, within=READY_WITHIN_S):
        def look():
            try:
                return self.admin.request("GET", "/readyz") == "ok"
            except (OSError, RefusedError, http.client.HTTPException) as error:
                if not self._process.running:
                    raise AssertionError(f"it ended\n{self._process.tail()}") from None
                return Unmet(f"{error}")

        eventually(look, within=within, what=f"{self.url}/readyz says ok")

    def audited(self, account, namespace, *, since=0):
        """What a ServiceAccount has asked for, and how many lines the log has: the next ``since``."""
        if not self._audit.exists():
            return [], 0
        lines = self._audit.read_text().splitlines()
        user = f"system:serviceaccount:{namespace}:{account}"
        events = [json.loads(line) for line in lines[since:] if f'"{user}"' in line]
        found = []
        for event in events:
            about = event.get("objectRef", {})
            name = "/".join(about[k] for k in ("resource", "subresource") if k in about)
            status = event.get("responseStatus", {}).get("code", 0)
            group = about.get("apiGroup", "")
            found.append(Audited(group, name, event["verb"], status, event["requestURI"]))
        return found, len(lines)

    def kill(self):
        """SIGKILL: connections are reset."""
        self._process.kill()

    def terminate(self):
        """SIGTERM: an orderly end. Returns the exit code."""
        return self._process.terminate(within=30)

    def freeze(self):
        """SIGSTOP: connections stay, and nothing answers."""
        self._process.freeze()

    def thaw(self):
        """SIGCONT."""
        self._process.thaw()

    @property
    def running(self):
        return self._process is not None and self._process.running

    def stop(self):
        if self._process is not None:
            self._process.kill()
