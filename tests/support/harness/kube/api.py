"""The API server's REST interface, as much of it as the tests use."""

import http.client
import json
import urllib.parse

# kind: where it lives and what it is called in a path, and whether it belongs to a namespace.
_PATHS = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "Pod": ("/api/v1", "pods", True),
    "Secret": ("/api/v1", "secrets", True),
    "Service": ("/api/v1", "services", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets", True),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers", True),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies", True),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "CustomResourceDefinition": (
        "/apis/apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        False,
    ),
    "PodMonitor": ("/apis/monitoring.coreos.com/v1", "podmonitors", True),
    "PrometheusRule": ("/apis/monitoring.coreos.com/v1", "prometheusrules", True),
    "Issuer": ("/apis/cert-manager.io/v1", "issuers", True),
    "Certificate": ("/apis/cert-manager.io/v1", "certificates", True),
}
REQUEST_WITHIN_S = 15


class RefusedError(AssertionError):
    """The API server said no.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, request, status, text):
        super().__init__(f"{request}: {status} {text}")
        self.status = status


class Api:
    """Requests to one API server, with one identity.

    Args:
        address: ``HOST:PORT``.
        context: TLS settings, a client certificate included.
        token: a bearer token, in place of a certificate.
    """

    def __init__(self, address, context, token=None):
        self._address = address
        self._context = context
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def create(self, document, *, dry_run=False):
        """Create an object; what the server made, or would make, of it."""
        query = "?dryRun=All" if dry_run else ""
        return self.request("POST", self._collection(document) + query, document)

    def create_all(self, documents):
        """Create many objects over one connection."""
        connection = self._connection()
        try:
            for document in documents:
                self._answer(connection, "POST", self._collection(document), document)
        finally:
            connection.close()

    def apply(self, document, *, dry_run=False):
        """Server-side apply, as ``kubectl apply --server-side``; an unknown field is refused."""
        query = "?fieldManager=tests&force=true&fieldValidation=Strict"
        query += "&dryRun=All" if dry_run else ""
        kind = "application/apply-patch+yaml"
        return self.request("PATCH", self._path(document) + query, document, kind=kind)

    def replace(self, document):
        return self.request("PUT", self._path(document), document)

    def merge(self, document, change, *, subresource=""):
        """JSON merge patch of the object that ``document`` names."""
        path = self._path(document) + (subresource and f"/{subresource}")
        return self.request("PATCH", path, change, kind="application/merge-patch+json")

    def delete(self, document, *, grace_s=None):
        options = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        return self.request("DELETE", self._path(document), options)

    def delete_all(self, kind, namespace, *, grace_s=0, selector=""):
        """Every object of that kind in the namespace, or those with the labels of ``selector``."""
        path = self._collection({"kind": kind, "metadata": {"namespace": namespace}})
        path += selector and f"?labelSelector={urllib.parse.quote(selector)}"
        return self.request("DELETE", path, {"gracePeriodSeconds": grace_s})

    def get(self, kind, name, namespace=None):
        return self.request("GET", self._path(_named(kind, name, namespace)))

    def all(self, kind, namespace=None, query=""):
        """The objects of a kind, of one namespace or all."""
        group, plural, namespaced = _PATHS[kind]
        inside = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return self.request("GET", f"{group}{inside}/{plural}{query}")["items"]

    def token(self, account, namespace, *, bound_to=None, seconds=3600, audience=None):
        """A token of a ServiceAccount, by the TokenRequest API.

        Args:
            bound_to: a Secret or Pod; the token is void as soon as that is deleted.
            audience: whom it is for; None: the API server itself.
        """
        spec = {"expirationSeconds": seconds}
        if audience:
            spec["audiences"] = [audience]
        if bound_to:
            meta = bound_to["metadata"]
            spec["boundObjectRef"] = {
                "apiVersion": "v1",
                "kind": bound_to["kind"],
                "name": meta["name"],
                "uid": meta["uid"],
            }
        path = self._path(_named("ServiceAccount", account, namespace)) + "/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return self.request("POST", path, request)["status"]["token"]

    def request(self, method, path, body=None, *, kind="application/json"):
        """One request; the document that is the answer.

        Raises:
            RefusedError: the server answered with an error.
        """
        connection = self._connection()
        try:
            return self._answer(connection, method, path, body, kind)
        finally:
            connection.close()

    def _connection(self):
        return http.client.HTTPSConnection(
            self._address, context=self._context, timeout=REQUEST_WITHIN_S
        )

    def _answer(self, connection, method, path, body, kind="application/json"):
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": kind, **self._headers})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise RefusedError(f"{method} {path}", answer.status, text)
        return json.loads(text) if text.startswith("{") else text

    def _collection(self, document):
        group, plural, namespaced = _PATHS[document["kind"]]
        inside = f"/namespaces/{document['metadata']['namespace']}" if namespaced else ""
        return f"{group}{inside}/{plural}"

    def _path(self, document):
        return f"{self._collection(document)}/{document['metadata']['name']}"


def _named(kind, name, namespace):
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}}
