"""``kubeconfig`` files, read as ``kubectl`` reads them.

Several files are merged: of entries with one name, and of ``current-context``, the first counts;
relative paths are relative to the file that they stand in. Source: "Organizing Cluster Access
Using kubeconfig Files"; client-go clientcmd/api/v1 types.go.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec
import yaml

from trimtab.discovery.kubernetes.access import ApiServer, without_secrets
from trimtab.discovery.kubernetes.credentials import Credentials, Fixed, TokenFile, bearer
from trimtab.discovery.kubernetes.exec_credential import API_VERSIONS, ExecCommand, ExecCredential
from trimtab.discovery.kubernetes.tls import Pem, Tls
from trimtab.errors import ConfigError, DiscoveryError

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 4 << 20
_LEVELS = 5  # of mappings: the file, an entry, its user, its exec, one of its variables
_EXEC_INFO = "client.authentication.k8s.io/exec"  # a cluster's extension that programs are given


class _Struct(msgspec.Struct, frozen=True, rename="kebab"):
    pass


class _Extension(msgspec.Struct, frozen=True):
    name: str
    extension: Any = None


class _Cluster(_Struct, frozen=True):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: list[_Extension] | None = None


class _EnvVar(msgspec.Struct, frozen=True):
    name: str
    value: str = ""


class _Exec(msgspec.Struct, frozen=True, rename="camel"):
    command: str = ""
    api_version: str = ""
    args: list[str] | None = None
    env: list[_EnvVar] | None = None
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""


class _User(_Struct, frozen=True):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    # These two are spelt in another way than all others.
    token_file: str = msgspec.field(name="tokenFile", default="")
    as_user: str = msgspec.field(name="as", default="")
    as_uid: str = ""
    as_groups: list[str] | None = None
    as_user_extra: dict[str, list[str]] | None = None
    username: str = ""
    password: str = ""
    auth_provider: Any = None
    exec: _Exec | None = None


class _Context(_Struct, frozen=True):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct, frozen=True):
    name: str
    cluster: _Cluster | None = None


class _NamedUser(msgspec.Struct, frozen=True):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct, frozen=True):
    name: str
    context: _Context | None = None


class _File(_Struct, frozen=True):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry with the file that it stands in."""

    value: Any
    where: str
    folder: Path


@dataclass(slots=True)
class _Merged:
    files: list[Path]
    clusters: dict[str, _Entry]
    users: dict[str, _Entry]
    contexts: dict[str, _Entry]
    current: str = ""


def _wall_clock() -> float:
    return datetime.now(UTC).timestamp()


def load(
    path: Path | None = None,
    context: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    wall: Callable[[], float] = _wall_clock,
) -> ApiServer:
    """The way to the API server that a context names.

    Args:
        path: the file; None means those of ``KUBECONFIG``, else ``~/.kube/config``.
        context: the context's name; None means the current one.
        environ: the environment that ``KUBECONFIG`` and ``HOME`` are looked up in.
        wall: the wall clock [Unix seconds], for credentials that end.

    Raises:
        ConfigError: naming the file, the field, the bad value and the fix.
    """
    merged = _merge(_paths(path, os.environ if environ is None else environ))
    files = ", ".join(map(str, merged.files))
    name = context or merged.current
    if not name:
        raise ConfigError(
            f"{files}: has no current-context; name one of these with --context: "
            f"{_names(merged.contexts)}"
        )
    chosen = _find(merged.contexts, name, f"{files}: context", "--context")
    asked: _Context = chosen.value
    where = f"{chosen.where}.context"
    cluster = _find(merged.clusters, asked.cluster, f"{where}.cluster", "clusters")
    user = (
        _find(merged.users, asked.user, f"{where}.user", "users")
        if asked.user
        else _Entry(_User(), f"{where}.user", chosen.folder)
    )
    server = _server(cluster)
    if not server.startswith("https:") and user.value != _User():
        _LOG.warning(
            "%s.cluster.server: credentials are not sent over http://; give an https:// URL",
            cluster.where,
        )
    return ApiServer(
        name=name,
        server=server,
        origin=f"context {name!r} of {files}",
        credentials=_credentials(user, cluster, wall),
        tls=_tls(cluster, user),
        namespace=asked.namespace or "default",
        proxy=_proxy(cluster),
        tls_server_name=cluster.value.tls_server_name or None,
        impersonation=_impersonation(user),
    )


def _paths(path: Path | None, environ: Mapping[str, str]) -> list[Path]:
    if path is not None:
        return [path.expanduser()]
    named = [Path(p) for p in environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    if not named:
        return [Path(environ.get("HOME", "~")).expanduser() / ".kube" / "config"]
    there = [p for p in dict.fromkeys(named) if p.exists()]  # kubectl passes missing ones over
    if not there:
        raise ConfigError(f"KUBECONFIG: {', '.join(map(str, named))}: there is no such file")
    return there


def _merge(paths: Sequence[Path]) -> _Merged:
    merged = _Merged(list(paths), {}, {}, {})
    for path in paths:
        file = _read(path)
        folder = path.absolute().parent
        entries: tuple[tuple[str, Sequence[Any], type[_Struct], dict[str, _Entry]], ...] = (
            ("cluster", file.clusters or (), _Cluster, merged.clusters),
            ("user", file.users or (), _User, merged.users),
            ("context", file.contexts or (), _Context, merged.contexts),
        )
        for kind, named, empty, into in entries:
            names: set[str] = set()
            for i, entry in enumerate(named):
                if entry.name in names:
                    raise ConfigError(
                        f"{path}: {kind}s[{i}].name: {entry.name!r} is there twice; remove one"
                    )
                names.add(entry.name)
                value = getattr(entry, kind) or empty()
                into.setdefault(entry.name, _Entry(value, f"{path}: {kind}s[{i}]", folder))
        merged.current = merged.current or file.current_context or ""
    return merged


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check --kubeconfig") from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {_MAX_BYTES} bytes; is it a kubeconfig?")
    try:
        content = yaml.safe_load(raw)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: is not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise ConfigError(f"{path}: is not valid YAML; is it a kubeconfig?") from None
    try:
        return msgspec.convert(_without_nulls({} if content is None else content), _File)
    except msgspec.ValidationError as error:
        # Without the value: it may be a secret.
        what, _, place = str(error).partition(" - at ")
        field = place.strip("`").removeprefix("$").lstrip(".")
        raise ConfigError(f"{path}: {field or 'the file'}: {what[:1].lower()}{what[1:]}") from None


def _without_nulls(content: Any, levels: int = _LEVELS) -> Any:
    """For kubectl a field that is null is not there."""
    if not levels:
        return content
    if isinstance(content, list):
        return [_without_nulls(value, levels) for value in content]
    if isinstance(content, dict):
        kept = ((key, value) for key, value in content.items() if value is not None)
        return {key: _without_nulls(value, levels - 1) for key, value in kept}
    return content


def _find(entries: Mapping[str, _Entry], name: str, where: str, kind: str) -> _Entry:
    found = entries.get(name)
    if found is None:
        raise ConfigError(f"{where}: {name!r} is not there; {kind} could be: {_names(entries)}")
    return found


def _names(entries: Mapping[str, _Entry]) -> str:
    return ", ".join(sorted(entries)[:20]) or "(there are none)"


def _server(cluster: _Entry) -> str:
    server: str = cluster.value.server
    where = f"{cluster.where}.cluster.server"
    parts = _url(server)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"{where}: {without_secrets(server)!r}: give a URL such as https://10.0.0.1:6443"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{where}: {without_secrets(server)!r}: has credentials in it; give the user a username "
            "and password"
        )
    return server.rstrip("/")


def _proxy(cluster: _Entry) -> str | None:
    proxy: str = cluster.value.proxy_url
    if not proxy:
        return None
    where = f"{cluster.where}.cluster.proxy-url"
    parts = _url(proxy)
    if parts is None or not (parts.scheme and parts.hostname):
        raise ConfigError(
            f"{where}: {without_secrets(proxy)!r}: give a URL such as http://10.0.0.1:3128"
        )
    if parts.scheme not in {"http", "https"}:
        raise ConfigError(
            f"{where}: {parts.scheme}:// proxies are not supported; give an http:// one"
        )
    return proxy


def _url(text: str) -> SplitResult | None:
    """None if it is none."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - looks whether it is a number
    except ValueError:
        return None
    return parts


def _pem(entry: _Entry, kind: str, field: str, inline: str, file: str) -> Pem | None:
    where = f"{entry.where}.{kind}.{field}"
    if inline:
        try:
            content = "".join(inline.split())  # it may stand on several lines
            return Pem(f"{where}-data", data=base64.b64decode(content, validate=True))
        except (binascii.Error, ValueError):
            raise ConfigError(f"{where}-data: is not base64; encode the PEM text with it") from None
    return Pem(where, path=entry.folder / file) if file else None


def _tls(cluster: _Entry, user: _Entry) -> Tls:
    said: _Cluster = cluster.value
    authority = _pem(
        cluster,
        "cluster",
        "certificate-authority",
        said.certificate_authority_data,
        said.certificate_authority,
    )
    if said.insecure_skip_tls_verify:
        if authority is not None:
            raise ConfigError(
                f"{cluster.where}.cluster.insecure-skip-tls-verify: with a certificate-authority it "
                "makes no sense; remove one of them"
            )
        _LOG.warning(
            "%s.cluster.insecure-skip-tls-verify: whoever is in between can read and change "
            "everything; give the certificate-authority instead",
            cluster.where,
        )
    shown: _User = user.value
    certificate = _pem(
        user, "user", "client-certificate", shown.client_certificate_data, shown.client_certificate
    )
    key = _pem(user, "user", "client-key", shown.client_key_data, shown.client_key)
    if (certificate is None) != (key is None):
        missing = "client-key" if key is None else "client-certificate"
        raise ConfigError(
            f"{user.where}.user.{missing}: is missing; certificate and key go together"
        )
    return Tls(
        authority, verify=not said.insecure_skip_tls_verify, certificate=certificate, key=key
    )


def _credentials(user: _Entry, cluster: _Entry, wall: Callable[[], float]) -> Credentials:
    said: _User = user.value
    where = f"{user.where}.user"
    if said.auth_provider is not None:
        raise ConfigError(
            f"{where}.auth-provider: is gone from Kubernetes since 1.26; use the exec program of "
            "your provider"
        )
    if said.token_file:
        return TokenFile(user.folder / said.token_file, f"{where}.tokenFile")
    if said.token:
        try:
            return Fixed(bearer(said.token, f"{where}.token"))
        except DiscoveryError as error:
            raise ConfigError(str(error)) from None
    if said.username:
        return Fixed.basic(said.username, said.password)
    if said.exec is not None:  # last: client-go's program is not asked where there is a token
        return ExecCredential(_command(said.exec, user, cluster), wall)
    return Fixed()


def _command(said: _Exec, user: _Entry, cluster: _Entry) -> ExecCommand:
    where = f"{user.where}.user.exec"
    if not said.command:
        raise ConfigError(f"{where}.command: is missing; give the program to run")
    if said.api_version not in API_VERSIONS:
        raise ConfigError(
            f"{where}.apiVersion: {said.api_version!r}: give one of {', '.join(API_VERSIONS)}"
        )
    if said.interactive_mode not in {"", "Never", "IfAvailable"}:
        raise ConfigError(
            f"{where}.interactiveMode: {said.interactive_mode!r}: there is nobody to answer it; "
            "give Never or IfAvailable"
        )
    return ExecCommand(
        where=where,
        command=said.command,
        api_version=said.api_version,
        args=tuple(said.args or ()),
        env={variable.name: variable.value for variable in said.env or ()},
        install_hint=said.install_hint,
        cluster=_cluster_info(cluster) if said.provide_cluster_info else None,
        folder=user.folder,
    )


def _cluster_info(cluster: _Entry) -> dict[str, Any]:
    """What a program is told of the cluster (client.authentication.k8s.io, Cluster)."""
    said: _Cluster = cluster.value
    authority = said.certificate_authority_data
    if not authority and said.certificate_authority:
        pem = Pem(f"{cluster.where}.cluster", path=cluster.folder / said.certificate_authority)
        authority = base64.b64encode(pem.read()).decode()
    config = next((e.extension for e in said.extensions or () if e.name == _EXEC_INFO), None)
    told = {
        "server": said.server,
        "tls-server-name": said.tls_server_name,
        "insecure-skip-tls-verify": said.insecure_skip_tls_verify,
        "certificate-authority-data": authority,
        "proxy-url": said.proxy_url,
        "config": config,
    }
    return {key: value for key, value in told.items() if value}


def _impersonation(user: _Entry) -> dict[str, str]:
    said: _User = user.value
    if not said.as_user:
        if said.as_groups or said.as_uid or said.as_user_extra:
            raise ConfigError(f"{user.where}.user.as: is missing, and as-groups and others need it")
        return {}
    if said.as_user_extra or len(said.as_groups or ()) > 1:
        raise ConfigError(
            f"{user.where}.user.as-groups: one group at most, and no as-user-extra, can be sent; "
            "use an account of its own for trimtab"
        )
    headers = {"Impersonate-User": said.as_user}
    if said.as_groups:
        headers["Impersonate-Group"] = said.as_groups[0]
    if said.as_uid:
        headers["Impersonate-Uid"] = said.as_uid
    return headers
