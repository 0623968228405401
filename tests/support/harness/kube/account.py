"""A ServiceAccount as a user of the API server: its kubeconfig, tokens and rights."""

from harness.kube import objects
from harness.kube.credentials import write_kubeconfig

READ = ("list", "watch")
SERVICES = {"apiGroups": [""], "resources": ["services"], "verbs": list(READ)}
SLICES = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": list(READ)}

REVIEWS = {
    "apiGroups": ["authentication.k8s.io"],
    "resources": ["tokenreviews"],
    "verbs": ["create"],
}


class Account:
    """A ServiceAccount with a token file, which its kubeconfig names.

    Args:
        api: the API server.
        name: the account's, in the namespace ``inside``.
        directory: for the kubeconfig and the token.
        context: the cluster's name in the kubeconfig.
    """

    def __init__(self, api, name, inside, directory, *, context="tests"):
        self._api = api
        self._name = name
        self._inside = inside
        self._token = directory / f"{name}.token"
        self.kubeconfig = write_kubeconfig(
            directory / f"{name}.kubeconfig",
            server=api.url,
            authority=api.credentials.authority,
            user={"tokenFile": str(self._token)},
            context=context,
        )

    def create(self, *rules):
        """Make the account, with these rights in the whole cluster and a token."""
        self._create("ClusterRole", rules)

    def create_in_namespace(self, *rules):
        """Make the account, with these rights in its own namespace and a token."""
        self._create("Role", rules)

    def _create(self, kind, rules):
        admin = self._api.admin
        admin.create(objects.service_account(self._name, self._inside))
        admin.create({**self._rbac(kind), "rules": list(rules)})
        admin.create(
            {
                **self._rbac(f"{kind}Binding"),
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": kind,
                    "name": self._role,
                },
                "subjects": [
                    {"kind": "ServiceAccount", "name": self._name, "namespace": self._inside}
                ],
            }
        )
        self.write_token()

    def allow(self, *rules):
        """From now on it may do this in the whole cluster, and nothing else."""
        self._api.admin.replace({**self._rbac("ClusterRole"), "rules": list(rules)})

    def write_token(self, *, bound_to=None):
        """Put a new token into the file, in one step, as a kubelet does."""
        draft = self._token.with_suffix(".draft")
        draft.write_text(self._api.admin.token(self._name, self._inside, bound_to=bound_to))
        draft.replace(self._token)

    def secret(self, name):
        """An object to bind a token to."""
        metadata = {"name": name, "namespace": self._inside}
        return self._api.admin.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})

    @property
    def _role(self):
        return f"{self._inside}-{self._name}"

    def _rbac(self, kind):
        metadata = {"name": self._role, "namespace": self._inside}
        if kind.startswith("Cluster"):
            del metadata["namespace"]
        version = "rbac.authorization.k8s.io/v1"
        return {"apiVersion": version, "kind": kind, "metadata": metadata}
