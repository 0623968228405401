"""``kubeconfig`` files as a way to an API server, read as ``kubectl`` reads them.

Relative paths are relative to the file that they stand in. Source: "Organizing Cluster Access Using
kubeconfig Files"; client-go clientcmd/api/v1 types.go.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from trimtab.discovery.kubernetes.access import ApiServer, without_secrets
from trimtab.discovery.kubernetes.credentials import Credentials, Fixed, TokenFile, bearer
from trimtab.discovery.kubernetes.exec_credential import API_VERSIONS, ExecCommand, ExecCredential
from trimtab.discovery.kubernetes.kubeconfig_files import Cluster, Context, Entry, Exec, User, merge
from trimtab.discovery.kubernetes.tls import Pem, Tls
from trimtab.errors import ConfigError, DiscoveryError

_LOG = logging.getLogger(__name__)
_EXEC_INFO = "client.authentication.k8s.io/exec"  # a cluster's extension that programs are given


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
    merged = merge(_paths(path, os.environ if environ is None else environ))
    files = ", ".join(map(str, merged.files))
    name = context or merged.current
    if not name:
        raise ConfigError(
            f"{files}: has no current-context; name one of these with --context: "
            f"{_names(merged.contexts)}"
        )
    chosen = _find(merged.contexts, name, f"{files}: context", "--context")
    asked: Context = chosen.value
    where = f"{chosen.where}.context"
    cluster = _find(merged.clusters, asked.cluster, f"{where}.cluster", "clusters")
    user = (
        _find(merged.users, asked.user, f"{where}.user", "users")
        if asked.user
        else Entry(User(), f"{where}.user", chosen.folder)
    )
    server = _server(cluster)
    if not server.startswith("https:") and user.value != User():
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


def _find(entries: Mapping[str, Entry], name: str, where: str, kind: str) -> Entry:
    found = entries.get(name)
    if found is None:
        raise ConfigError(f"{where}: {name!r} is not there; {kind} could be: {_names(entries)}")
    return found


def _names(entries: Mapping[str, Entry]) -> str:
    return ", ".join(sorted(entries)[:20]) or "(there are none)"


def _server(cluster: Entry) -> str:
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


def _proxy(cluster: Entry) -> str | None:
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


def _pem(entry: Entry, kind: str, field: str, inline: str, file: str) -> Pem | None:
    where = f"{entry.where}.{kind}.{field}"
    if inline:
        try:
            content = "".join(inline.split())  # it may stand on several lines
            return Pem(f"{where}-data", data=base64.b64decode(content, validate=True))
        except (binascii.Error, ValueError):
            raise ConfigError(f"{where}-data: is not base64; encode the PEM text with it") from None
    return Pem(where, path=entry.folder / file) if file else None


def _tls(cluster: Entry, user: Entry) -> Tls:
    said: Cluster = cluster.value
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
    shown: User = user.value
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


def _credentials(user: Entry, cluster: Entry, wall: Callable[[], float]) -> Credentials:
    said: User = user.value
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


def _command(said: Exec, user: Entry, cluster: Entry) -> ExecCommand:
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


def _cluster_info(cluster: Entry) -> dict[str, Any]:
    """What a program is told of the cluster (client.authentication.k8s.io, Cluster)."""
    said: Cluster = cluster.value
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


def _impersonation(user: Entry) -> dict[str, str]:
    said: User = user.value
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
