"""Where the control plane is and who this process says it is.

The file is the standard gRPC bootstrap (gRFC A27 and successors), taken unchanged; unknown fields
are ignored, as there. What trimtab reads of it: ``xds_servers`` (``server_uri``, ``channel_creds``
of type ``insecure`` or ``tls``, ``call_creds`` of type ``jwt_token_file``, ``server_features``) in order of preference and ``node`` (``id``,
``cluster``, ``locality``, ``metadata``). Federation (``xdstp:`` names, gRFC A47) is not supported
and refused in words; ``authorities`` that no name leads to do no harm and are ignored.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from trimtab.errors import ConfigError
from trimtab.model import Locality

FILE_VARIABLE = "GRPC_XDS_BOOTSTRAP"
TEXT_VARIABLE = "GRPC_XDS_BOOTSTRAP_CONFIG"
SHORT_VARIABLE = "TRIMTAB_CONTROL_PLANE"
ZONE_VARIABLE = "TRIMTAB_ZONE"
SERVICE_VARIABLE = "TRIMTAB_SERVICE"
CA_VARIABLE = "TRIMTAB_CA"
CERTIFICATE_VARIABLE = "TRIMTAB_CERTIFICATE"
KEY_VARIABLE = "TRIMTAB_KEY"
TOKEN_VARIABLE = "TRIMTAB_TOKEN_FILE"  # noqa: S105 - the name of a variable that names a file
_EXAMPLE = '{"xds_servers": [{"server_uri": "host:port", "channel_creds": [{"type": "insecure"}]}]}'


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to open a connection to a control plane.

    Attributes:
        kind: ``insecure`` or ``tls`` (gRFC A65).
        ca_file: PEM of the authorities to trust; "" takes gRPC's default roots.
        certificate_file: PEM of the client's own chain, "" for none.
        private_key_file: PEM of its key; set exactly when ``certificate_file`` is.
        token_file: a bearer token (gRFC A97), read again for each stream; "" for none. Only with
            ``tls``.
    """

    kind: str = "insecure"
    ca_file: str = ""
    certificate_file: str = ""
    private_key_file: str = ""
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """One control plane: a gRPC target, how to connect, and its ``server_features``."""

    uri: str
    credentials: Credentials = Credentials()
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """Who this process says it is.

    Attributes:
        id: unique per process.
        cluster: by convention the client's own service.
        locality: where it runs.
        metadata: any JSON object; ``namespace`` expands names such as ``orders:grpc``.
    """

    id: str
    cluster: str = ""
    locality: Locality = field(default_factory=Locality)
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The control planes in order of preference, and this process's identity.

    Equal bootstraps share one subscription in a process.

    Attributes:
        servers: at least one; the first that answers is used (``subscriber.py`` has the rules).
        node: sent with the first request of a stream.
        origin: where this came from, for messages.
    """

    servers: tuple[Server, ...]
    node: Node
    origin: str = field(default="argument", compare=False)

    @classmethod
    def of(
        cls,
        *addresses: str,
        node_id: str = "",
        namespace: str = "",
        zone: str = "",
        service: str = "",
        node_name: str = "",
    ) -> Bootstrap:
        """A bootstrap without a file: plaintext to ``host:port`` addresses, in order.

        Args:
            addresses: the control planes.
            node_id: "" makes one of host name and process id.
            namespace: the Kubernetes namespace that short names are looked up in.
            zone: where this process runs.
            service: the Service that it is part of, ``SERVICE.NAMESPACE`` or ``SERVICE``.
            node_name: its Kubernetes node, whose zone trimtab's control plane looks up.

        Raises:
            ConfigError: no address, or one that is not ``host:port``.
        """
        metadata = {"namespace": namespace, "node_name": node_name}
        node = _node(node_id, service, zone, metadata)
        return _short(addresses, node, "argument bootstrap")


def load(
    explicit: str | os.PathLike[str] | Mapping[str, Any] | Bootstrap | None = None,
    environ: Mapping[str, str] | None = None,
) -> Bootstrap:
    """Find and read the bootstrap.

    The first of these that is there: ``explicit`` (a path, JSON text, a mapping or a finished
    ``Bootstrap``), the file named by ``GRPC_XDS_BOOTSTRAP``, the JSON in
    ``GRPC_XDS_BOOTSTRAP_CONFIG``, and ``TRIMTAB_CONTROL_PLANE=host:port[,host:port]``, whose node
    takes ``TRIMTAB_NAMESPACE`` (or ``POD_NAMESPACE``), ``TRIMTAB_ZONE``, ``TRIMTAB_SERVICE`` and
    ``TRIMTAB_NODE_NAME`` (or ``NODE_NAME``). With ``TRIMTAB_CA`` (a PEM file),
    ``TRIMTAB_TOKEN_FILE``, or ``TRIMTAB_CERTIFICATE`` and ``TRIMTAB_KEY``, that form speaks TLS.

    Args:
        explicit: what the caller gave, None for nothing.
        environ: the environment, ``os.environ`` by default.

    Raises:
        ConfigError: there is none, or it is wrong; the text names its origin, field, value and fix.
    """
    env = os.environ if environ is None else environ
    if isinstance(explicit, Bootstrap):
        return explicit
    if isinstance(explicit, Mapping):
        return _parse(dict(explicit), "argument bootstrap")
    if explicit is not None:
        if not isinstance(explicit, str | os.PathLike):
            raise ConfigError(
                f"argument bootstrap: {explicit!r} is a value of type {type(explicit).__name__}; give a path, "
                "JSON text, a mapping or a Bootstrap"
            )
        text = os.fspath(explicit)
        if text.lstrip().startswith("{"):
            return _parse(_json(text, "argument bootstrap"), "argument bootstrap")
        return _read(text, f"argument bootstrap, file {text}")
    if file := env.get(FILE_VARIABLE):
        return _read(file, f"{FILE_VARIABLE}, file {file}")
    if inline := env.get(TEXT_VARIABLE):
        return _parse(_json(inline, TEXT_VARIABLE), TEXT_VARIABLE)
    if short := env.get(SHORT_VARIABLE):
        namespace = env.get("TRIMTAB_NAMESPACE") or env.get("POD_NAMESPACE") or ""
        machine = env.get("TRIMTAB_NODE_NAME") or env.get("NODE_NAME") or ""
        metadata = {"namespace": namespace, "node_name": machine}
        node = _node("", env.get(SERVICE_VARIABLE, ""), env.get(ZONE_VARIABLE, ""), metadata)
        return _short(tuple(short.split(",")), node, SHORT_VARIABLE, _short_credentials(env))
    raise ConfigError(
        f"no control plane is configured: set {SHORT_VARIABLE}=host:port, or {FILE_VARIABLE} to a "
        "bootstrap file, or pass bootstrap=; for a fixed list without a control plane pass "
        "endpoints="
    )


def _node(node_id: str, service: str, zone: str, metadata: Mapping[str, str]) -> Node:
    known = {key: value for key, value in metadata.items() if value}
    return Node(node_id or _generated_id(), service, Locality(zone=zone), known)


def _short_credentials(env: Mapping[str, str]) -> Credentials:
    names = (CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE, TOKEN_VARIABLE)
    ca, certificate, key, token = (env.get(name, "") for name in names)
    if bool(certificate) != bool(key):
        raise ConfigError(
            f"{CERTIFICATE_VARIABLE}={certificate!r} and {KEY_VARIABLE}={key!r}: tls needs both files, "
            "or neither"
        )
    kind = "tls" if any((ca, certificate, token)) else "insecure"
    return Credentials(kind, ca, certificate, key, token)


def _short(
    addresses: tuple[str, ...],
    node: Node,
    origin: str,
    credentials: Credentials = Credentials(),
) -> Bootstrap:
    servers = tuple(Server(_host_port(text.strip(), origin), credentials) for text in addresses)
    if not servers:
        raise ConfigError(f"{origin}: no control plane; give at least one host:port")
    return Bootstrap(servers, node, origin)


def _host_port(text: str, origin: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):  # noqa: PLR2004
        raise ConfigError(
            f"{origin}: {text!r} is not host:port with a port from 1 to 65535, "
            "such as trimtab.trimtab-system:18000"
        )
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        url = "//" in host
        fix = "write host:port alone" if url else "write an IPv6 address in brackets, [::1]:18000"
        raise ConfigError(f"{origin}: {text!r}: {fix}")
    return text


def _generated_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def _read(path: str, origin: str) -> Bootstrap:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{origin}: cannot be read ({error}); give a readable file or "
            f"JSON text; an address alone goes into {SHORT_VARIABLE}"
        ) from error
    return _parse(_json(text, origin), origin)


def _json(text: str, origin: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: not valid JSON ({error}); expected {_EXAMPLE}") from error


class _CredsFile(msgspec.Struct, frozen=True):
    certificate_file: str = ""
    private_key_file: str = ""
    ca_certificate_file: str = ""


class _Creds(msgspec.Struct, frozen=True):
    type: str
    config: _CredsFile | None = None


class _TokenFile(msgspec.Struct, frozen=True):
    jwt_token_file: str = ""


class _CallCreds(msgspec.Struct, frozen=True):
    type: str
    config: _TokenFile | None = None


class _Server(msgspec.Struct, frozen=True):
    server_uri: str
    channel_creds: list[_Creds]
    call_creds: list[_CallCreds] = []
    server_features: list[str] = []


class _Locality(msgspec.Struct, frozen=True):
    region: str = ""
    zone: str = ""
    sub_zone: str = ""


class _Node(msgspec.Struct, frozen=True):
    id: str = ""
    cluster: str = ""
    locality: _Locality = _Locality()
    metadata: dict[str, Any] = {}


class _Document(msgspec.Struct, frozen=True):
    xds_servers: list[_Server]
    node: _Node = _Node()
    client_default_listener_resource_name_template: str = "%s"
    authorities: dict[str, Any] = {}


def _parse(document: Any, origin: str) -> Bootstrap:
    try:
        read = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(document, str(error), origin)) from error
    if not read.xds_servers:
        raise ConfigError(f"{origin}: field xds_servers is empty; expected {_EXAMPLE}")
    template = read.client_default_listener_resource_name_template
    if template not in ("", "%s"):
        raise ConfigError(
            f"{origin}: field client_default_listener_resource_name_template: {template!r} is not "
            "supported (no federation); remove it or use '%s'"
        )
    servers = tuple(_server(s, f"xds_servers[{i}]", origin) for i, s in enumerate(read.xds_servers))
    where = read.node.locality
    node = Node(
        read.node.id or _generated_id(),
        read.node.cluster,
        Locality(where.region, where.zone, where.sub_zone),
        read.node.metadata,
    )
    return Bootstrap(servers, node, origin)


def _server(server: _Server, place: str, origin: str) -> Server:
    if not server.server_uri.strip():
        raise ConfigError(f"{origin}: field {place}.server_uri is empty; give host:port")
    token_file = _token_file(server, place, origin)
    for creds in server.channel_creds:  # A27: the first type that the client knows
        if creds.type == "insecure":
            if token_file:
                raise ConfigError(
                    f"{origin}: field {place}.call_creds: a token goes over TLS only; list "
                    "channel_creds of type 'tls' first"
                )
            return Server(server.server_uri, Credentials(), tuple(server.server_features))
        if creds.type == "tls":
            files = creds.config or _CredsFile()
            if bool(files.certificate_file) != bool(files.private_key_file):
                raise ConfigError(
                    f"{origin}: field {place}.channel_creds: tls needs certificate_file and "
                    f"private_key_file together; got certificate_file={files.certificate_file!r}, "
                    f"private_key_file={files.private_key_file!r}"
                )
            credentials = Credentials(
                "tls",
                files.ca_certificate_file,
                files.certificate_file,
                files.private_key_file,
                token_file,
            )
            return Server(server.server_uri, credentials, tuple(server.server_features))
    types = [creds.type for creds in server.channel_creds]
    raise ConfigError(
        f"{origin}: field {place}.channel_creds: none of {types} is supported; "
        "list one of type 'insecure' or 'tls'"
    )


def _token_file(server: _Server, place: str, origin: str) -> str:
    """The first token that we know how to send; A97: other types are passed over."""
    for creds in server.call_creds:
        if creds.type == "jwt_token_file":
            if creds.config is None or not creds.config.jwt_token_file:
                raise ConfigError(
                    f"{origin}: field {place}.call_creds: jwt_token_file needs "
                    'config: {"jwt_token_file": "/path"}'
                )
            return creds.config.jwt_token_file
    return ""


def _explain(document: Any, message: str, origin: str) -> str:
    """Turn msgspec's ``Expected `str`, got `int` - at `$.node.id``` into field, value and fix."""
    problem, _, path = message.partition(" - at ")
    path = path.strip("`")
    value = document
    for step in path.replace("[", ".").replace("]", "").split(".")[1:]:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
    place = path.removeprefix("$").removeprefix(".")
    try:
        shown = json.dumps(value, default=repr)
    except TypeError:  # a key of another type
        shown = repr(value)
    if len(shown) > 80:  # noqa: PLR2004
        shown = shown[:77] + "..."
    subject = f"field {place}" if place else "the document"
    return f"{origin}: {subject}: {shown}: {problem[0].lower()}{problem[1:]}; compare {_EXAMPLE}"
