"""The files of a kubeconfig, merged as ``kubectl`` merges them.

Several files are one: of entries with one name, and of ``current-context``, the first counts. Source:
"Organizing Cluster Access Using kubeconfig Files"; client-go clientcmd/api/v1 types.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from trimtab.errors import ConfigError

_MAX_BYTES = 4 << 20
_LEVELS = 5  # of mappings: the file, an entry, its user, its exec, one of its variables


class _Struct(msgspec.Struct, frozen=True, rename="kebab"):
    pass


class Extension(msgspec.Struct, frozen=True):
    """A cluster's extension, for whoever knows its name."""

    name: str
    extension: Any = None


class Cluster(_Struct, frozen=True):
    """Where an API server is. Absent, null and "" mean the same, here and below."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: list[Extension] | None = None


class EnvVar(msgspec.Struct, frozen=True):
    """A variable of a program's environment."""

    name: str
    value: str = ""


class Exec(msgspec.Struct, frozen=True, rename="camel"):
    """A program that makes credentials."""

    command: str = ""
    api_version: str = ""
    args: list[str] | None = None
    env: list[EnvVar] | None = None
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""


class User(_Struct, frozen=True):
    """Credentials."""

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
    exec: Exec | None = None


class Context(_Struct, frozen=True):
    """A cluster and a user, by their names."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct, frozen=True):
    name: str
    cluster: Cluster | None = None


class _NamedUser(msgspec.Struct, frozen=True):
    name: str
    user: User | None = None


class _NamedContext(msgspec.Struct, frozen=True):
    name: str
    context: Context | None = None


class _File(_Struct, frozen=True):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry with the file that it stands in."""

    value: Any
    where: str
    folder: Path


@dataclass(slots=True)
class Merged:
    """What all files say together.

    Attributes:
        files: in the order in which they count.
        clusters: a ``Cluster`` in each entry; by name.
        users: a ``User`` in each entry; by name.
        contexts: a ``Context`` in each entry; by name.
        current: the current context's name, "" if there is none.
    """

    files: list[Path]
    clusters: dict[str, Entry]
    users: dict[str, Entry]
    contexts: dict[str, Entry]
    current: str = ""


def merge(paths: Sequence[Path]) -> Merged:
    """Read files and make them one.

    Raises:
        ConfigError: naming the file, the field and the fix; never a value, which may be a secret.
    """
    merged = Merged(list(paths), {}, {}, {})
    for path in paths:
        file = _read(path)
        folder = path.absolute().parent
        entries: tuple[tuple[str, Sequence[Any], type[_Struct], dict[str, Entry]], ...] = (
            ("cluster", file.clusters or (), Cluster, merged.clusters),
            ("user", file.users or (), User, merged.users),
            ("context", file.contexts or (), Context, merged.contexts),
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
                into.setdefault(entry.name, Entry(value, f"{path}: {kind}s[{i}]", folder))
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
