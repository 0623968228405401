"""A cluster's certificates and keys, and kubeconfig files that name them."""

import ssl
from pathlib import Path

import trustme
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class Credentials:
    """One certificate authority with what it issued, as files in ``directory``."""

    def __init__(self, directory):
        directory.mkdir()
        self._directory = directory
        self._authority = trustme.CA()
        self.authority = directory / "ca.crt"
        self._authority.cert_pem.write_to_path(str(self.authority))
        self.admin = self.client("admin", "system:masters")
        self.service_account_key = directory / "service-accounts.key"
        key = ec.generate_private_key(ec.SECP256R1())
        self.service_account_key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )

    def server(self, *names):
        """A server's certificate with its key: one file."""
        return self._write(names[0], self._authority.issue_cert(*names))

    def client(self, user, group):
        """A client's certificate with its key: one file."""
        name = f"{user}@clients.example"
        issued = self._authority.issue_cert(name, common_name=user, organization_name=group)
        return self._write(user, issued)

    def admin_context(self):
        """TLS settings that authenticate as the administrator."""
        context = self.anonymous_context()
        context.load_cert_chain(self.admin)
        return context

    def anonymous_context(self):
        """TLS settings that authenticate as nobody."""
        return ssl.create_default_context(cafile=str(self.authority))

    def admin_kubeconfig(self, server):
        """The administrator's kubeconfig."""
        user = {"client-certificate": str(self.admin), "client-key": str(self.admin)}
        path = self._directory / "admin.kubeconfig"
        write_kubeconfig(path, server=server, authority=self.authority, user=user, context="admin")
        return path

    def _write(self, name, issued):
        path = self._directory / f"{name}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        path.chmod(0o600)
        return path


def write_kubeconfig(path: Path, *, server, authority, user, context):
    """A kubeconfig with one context; ``user`` as in the file's own format."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": "api", "user": "user"}}],
        "clusters": [
            {
                "name": "api",
                "cluster": {"server": server, "certificate-authority": str(authority)},
            }
        ],
        "users": [{"name": "user", "user": user}],
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
