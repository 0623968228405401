"""How a client and the control plane know each other, as the bootstrap of each kind of client says it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from trimtab.control.config import Address
from trimtab.errors import ConfigError

_ENVOY = "type.googleapis.com/envoy.extensions"
_TLS = f"{_ENVOY}.transport_sockets.tls.v3.UpstreamTlsContext"
_SECRET_TYPE = f"{_ENVOY}.transport_sockets.tls.v3.Secret"
_INJECTOR = f"{_ENVOY}.filters.http.credential_injector.v3.CredentialInjector"
_GENERIC = f"{_ENVOY}.http.injected_credentials.generic.v3.Generic"
_CODEC = f"{_ENVOY}.filters.http.upstream_codec.v3.UpstreamCodec"
_SECRET = "trimtab-token"  # noqa: S105 - the name of a secret


@dataclass(frozen=True, slots=True)
class Trust:
    """Files on the client's machine; none of them: plaintext.

    Attributes:
        ca: PEM of the authorities that vouch for the control plane.
        token_file: the client's token.
        certificate: PEM of the client's certificate chain.
        key: PEM of its private key.
        secret_file: where an Envoy finds what ``envoy_secret`` gives: it takes a token through such a
            file only.

    Raises:
        ConfigError: files that can't be used together.
    """

    ca: str = ""
    token_file: str = ""
    certificate: str = ""
    key: str = ""
    secret_file: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("--certificate and --key: give both, or neither")
        for flag, given in (("--token-file", self.token_file), ("--certificate", self.certificate)):
            if given and not self.ca:
                raise ConfigError(f"{flag} {given}: is for TLS; give --ca too")
        if self.secret_file and not self.token_file:
            raise ConfigError(f"--secret-file {self.secret_file}: is for --token-file; give it too")

    def grpc_credentials(self) -> dict[str, Any]:
        """``channel_creds`` and ``call_creds`` of a gRPC bootstrap (gRFC A65, A97)."""
        if not self.ca:
            return {"channel_creds": [{"type": "insecure"}]}
        files = {"ca_certificate_file": self.ca}
        if self.certificate:
            files |= {"certificate_file": self.certificate, "private_key_file": self.key}
        found: dict[str, Any] = {"channel_creds": [{"type": "tls", "config": files}]}
        if self.token_file:
            config = {"jwt_token_file": self.token_file}
            found["call_creds"] = [{"type": "jwt_token_file", "config": config}]
        return found

    def variables(self) -> dict[str, str]:
        """The environment of a trimtab client."""
        named = {
            "TRIMTAB_CA": self.ca,
            "TRIMTAB_TOKEN_FILE": self.token_file,
            "TRIMTAB_CERTIFICATE": self.certificate,
            "TRIMTAB_KEY": self.key,
        }
        return {name: file for name, file in named.items() if file}

    def envoy_socket(self, server: Address) -> dict[str, Any]:
        """The ``transport_socket`` of an Envoy's cluster that leads to the control plane, in its place."""
        if not self.ca:
            return {}
        try:
            ipaddress.ip_address(server.host)
        except ValueError:
            sni, kind = {"sni": server.host}, "DNS"
        else:
            sni, kind = {}, "IP_ADDRESS"
        name = {"san_type": kind, "matcher": {"exact": server.host}}
        tls: dict[str, Any] = {
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"filename": self.ca},
                "match_typed_subject_alt_names": [name],
            },
        }
        if self.certificate:
            chain, key = {"filename": self.certificate}, {"filename": self.key}
            tls["tls_certificates"] = [{"certificate_chain": chain, "private_key": key}]
        socket = {"@type": _TLS, **sni, "common_tls_context": tls}
        return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": socket}}

    def envoy_filters(self) -> dict[str, Any]:
        """``http_filters`` of the same cluster's HTTP options, in its place: they send the token.

        Envoy reads the token again when something is moved into its directory, as kubelet does.

        Raises:
            ConfigError: a token, and no place for Envoy's file about it.
        """
        if not self.token_file:
            return {}
        if not self.secret_file:
            raise ConfigError(
                f"--token-file {self.token_file}: Envoy takes a token through a file of its own; write "
                "what --for envoy-secret prints to one, and name it by --secret-file"
            )
        directory = str(PurePosixPath(self.token_file).parent)
        source = {"path": self.secret_file, "watched_directory": {"path": directory}}
        credential = {
            "@type": _GENERIC,
            "header_value_prefix": "Bearer ",
            "credential": {
                "name": _SECRET,
                "sds_config": {"resource_api_version": "V3", "path_config_source": source},
            },
        }
        injector = {
            "@type": _INJECTOR,
            "credential": {
                "name": "envoy.http.injected_credentials.generic",
                "typed_config": credential,
            },
        }
        return {
            "http_filters": [
                {"name": "envoy.filters.http.credential_injector", "typed_config": injector},
                {"name": "envoy.filters.http.upstream_codec", "typed_config": {"@type": _CODEC}},
            ]
        }


def envoy_secret(token_file: str) -> dict[str, Any]:
    """What an Envoy reads at ``Trust.secret_file``: where the token is.

    Raises:
        ConfigError: there is no token.
    """
    if not token_file:
        raise ConfigError("--for envoy-secret: says where the token is; give --token-file")
    secret = {"secret": {"filename": token_file}}
    return {"resources": [{"@type": _SECRET_TYPE, "name": _SECRET, "generic_secret": secret}]}


PLAINTEXT = Trust()
