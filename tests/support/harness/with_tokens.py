"""A control plane that knows its clients by tokens, and clients that it knows."""

import base64
import hashlib
import json
import time

import yaml

from certificates import Authority
from harness.control_plane import ControlPlane, printed_bootstrap
from harness.envoy import Envoy
from harness.ports import free_port

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


def envoy_with_token(server, token_file, ca, directory, *more):
    """An Envoy that sends this token; ``more`` are options of ``trimtab bootstrap``, as pairs."""
    token = ("token_file", str(token_file))
    secret = directory / "secret.yaml"
    secret.write_text(printed_bootstrap("envoy-secret", server, (token,)))
    options = (("node_id", "edge"), ("ca", str(ca)), token, ("secret_file", str(secret)), *more)
    return Envoy("edge", printed_bootstrap("envoy", server, options), directory)


def route_file(service, directory):
    """One that leads to this Service alone; and the address to which requests go."""
    address, path = f"127.0.0.1:{free_port()}", directory / "routes.yaml"
    admin = f"127.0.0.1:{free_port()}"
    file = {"listeners": [address], "admin": admin, "routes": [{"service": service}]}
    path.write_text(yaml.safe_dump(file))
    return path, address


def jwt(lasts_s=3600):
    """C-core sends a token only while its own words say that it hasn't ended."""
    words = {"exp": int(time.time()) + lasts_s}  # noqa: TID251 - as in JWTs
    body = base64.urlsafe_b64encode(json.dumps(words).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{body}.c2ln"
