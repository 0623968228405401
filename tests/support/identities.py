"""How clients and the control plane prove who they are: files and credentials."""

import hashlib

import grpc


def write_pair(files, authority, name="leaf", valid=None):
    chain, key = authority.issue(name=name, valid=valid)
    files.certificate.write_bytes(chain)
    files.key.write_bytes(key)


def client_tls(authority, spiffe=None, names=()):
    wanted = spiffe or names
    chain, key = authority.issue(spiffe=spiffe, names=names) if wanted else (None, None)
    return grpc.ssl_channel_credentials(authority.pem, key, chain)


def with_token(authority, token):
    return grpc.composite_channel_credentials(
        client_tls(authority), grpc.access_token_call_credentials(token)
    )


def tokens(tmp_path):
    path = tmp_path / "tokens.yaml"
    entries = [("web", "shop"), ("till", "bank")]
    path.write_text(
        "".join(
            f"- {{name: {name}, namespace: {ns}, sha256: {hashlib.sha256(ns.encode()).hexdigest()}}}\n"
            for name, ns in entries
        )
    )
    return path
