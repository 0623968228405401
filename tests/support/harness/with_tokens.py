"""A control plane that knows its clients by tokens, and the bootstrap of the one that it knows."""

import base64
import hashlib
import json
import time

from certificates import Authority
from harness.control_plane import ControlPlane, printed_bootstrap

# C-core and Go read call_creds of a bootstrap (gRFC A97) only with this.
SWITCH = {"GRPC_EXPERIMENTAL_XDS_BOOTSTRAP_CALL_CREDS": "true"}


def bootstrap_with_token(addresses, manifests, started, directory):
    """Start it on these manifests; what ``trimtab bootstrap --for grpc`` prints for a client in ``shop``."""
    authority, token = Authority(), jwt()
    digest = hashlib.sha256(token.encode()).hexdigest()
    chain, key = authority.issue()
    contents = {
        "tls.crt": chain,
        "tls.key": key,
        "ca.crt": authority.pem,
        "token": token.encode(),
        "tokens.yaml": f"- {{name: web, namespace: shop, sha256: {digest}}}\n".encode(),
    }
    files = {name: directory / name for name in contents}
    for name, content in contents.items():
        files[name].write_bytes(content)
    flags = {"--tls-cert": "tls.crt", "--tls-key": "tls.key", "--tokens": "tokens.yaml"}
    options = [str(part) for flag, name in flags.items() for part in (flag, files[name])]
    plane = started(ControlPlane(addresses, manifests.path, options=options))
    plane.start()
    trust = (("ca", str(files["ca.crt"])), ("token_file", str(files["token"])))
    return printed_bootstrap("grpc", plane.address, (("node_id", "native"), *trust))


def jwt(lasts_s=3600):
    """C-core sends a token only while its own words say that it hasn't ended."""
    words = {"exp": int(time.time()) + lasts_s}  # noqa: TID251 - as in JWTs
    body = base64.urlsafe_b64encode(json.dumps(words).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{body}.c2ln"
