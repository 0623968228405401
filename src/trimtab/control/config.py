"""What ``trimtab serve`` is told: its configuration file and its listening addresses.

Everything is checked here, before anything starts; the rest of the room gets frozen values.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml

from trimtab.control.authorization import Policy, Rule
from trimtab.control.limits import Limits
from trimtab.control.report_streams import OutOfBand
from trimtab.errors import ConfigError
from trimtab.model import Problem, Snapshot
from trimtab.xds.names import Alias, NameTable

MAX_CONFIG_BYTES = 1 << 20
_MAX_PORT = 65535
# What msgspec calls JSON's types, as one would say it of YAML.
_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a mapping",
    "str": "text",
}
_NO_HOST = re.compile(r"[\s,/:@]")  # of a URL, or of several addresses

_NonEmpty = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


class ClusterAlias(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name under which an existing client asks for a cluster.

    Attributes:
        name: the name that is asked for, such as ``ratelimit-eds``.
        namespace: the Service's namespace.
        service: the Service's name.
        port: the Service port's number or name.
    """

    name: _NonEmpty
    namespace: _NonEmpty
    service: _NonEmpty
    port: Annotated[int, msgspec.Meta(ge=1, le=_MAX_PORT)] | _NonEmpty


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file behind ``--config``.

    Attributes:
        clusters: further names of clusters.
        admin_hosts: host names under which the admin pages may be asked for, besides loopback
            names and IP addresses (a browser tricked by DNS rebinding names a foreign host).
        admin_readers: patterns of the subjects (``authorization.Identity``) that may read the
            admin pages where those need a token; a change applies at once.
        status_readers: patterns of the subjects that may ask on the xDS port what every client has
            (CSDS), where clients prove who they are; the others see their own streams. A change
            applies at once.
        authorization: what clients may see, by identity; a change applies at once.
        limits: what clients may cost.
        load_reports: native gRPC clients shall report their load, on a stream of their own.
        out_of_band: load reports that the control plane reads from servers.
    """

    clusters: tuple[ClusterAlias, ...] = ()
    admin_hosts: tuple[_NonEmpty, ...] = ()
    admin_readers: tuple[_NonEmpty, ...] = ("static:*",)
    status_readers: tuple[_NonEmpty, ...] = ()
    authorization: Policy = Policy()
    limits: Limits = Limits()
    load_reports: bool = False
    out_of_band: OutOfBand = OutOfBand()

    def aliases(self) -> tuple[Alias, ...]:
        """The aliases as the catalog takes them."""
        return tuple(
            Alias(name=c.name, namespace=c.namespace, service=c.service, port=c.port)
            for c in self.clusters
        )


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: naming the file, the field, the bad value and the fix.
    """
    content = _parse(path, _read(path))
    try:
        config = msgspec.convert(content if content is not None else {}, Config)
    except msgspec.ValidationError as error:
        parts: dict[str, type[msgspec.Struct]] = {
            "clusters[": ClusterAlias,
            "authorization.rules[": Rule,
            "authorization": Policy,
            "limits": Limits,
            "out_of_band": OutOfBand,
        }
        raise ConfigError(explain(path, content, str(error), Config, parts)) from None
    _refuse_doubles(path, config)
    return config


def read_yaml(path: Path, hint: str) -> Any:
    """A small YAML file: without aliases, no key twice.

    Raises:
        ConfigError: it can't be read, which ends with ``hint``, or is not valid.
    """
    return _parse(path, _read(path, hint))


def _read(path: Path, hint: str = "check --config") -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; {hint}") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_CONFIG_BYTES} bytes; is it the right file?")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses what a small configuration never needs."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if isinstance(key, str) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep=deep)


def _parse(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: is not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None


def explain(
    path: Path,
    content: Any,
    message: str,
    whole: type[msgspec.Struct],
    parts: Mapping[str, type[msgspec.Struct]],
) -> str:
    """The message of msgspec, with the field as users write it, its value, and what is allowed.

    Args:
        path: of the file.
        content: what stands in it.
        message: of msgspec's.
        whole: what the file was to be.
        parts: what the mappings within it were to be, by something in their fields' paths.
    """
    what, _, where = message.partition(" - at `")
    field = where.rstrip("`").removeprefix("$").lstrip(".")
    value = _value_at(content, field)
    unknown = re.match(r"Object contains unknown field `(.*)`", what)
    if unknown:
        name = f"{field}.{unknown[1]}" if field else unknown[1]
        known = next((kind for part, kind in parts.items() if part in field), whole)
        fields = ", ".join(known.__struct_fields__)
        return f"{path}: {name}: unknown field; known here: {fields}"
    shown = f": {value!r:.80}" if value is not None else ""
    if what.startswith("Invalid enum value"):
        what = f"is none of {', '.join(_choices(field, whole, parts))}"
    for name, word in _WORDS.items():
        what = what.replace(f"`{name}`", word)
    return f"{path}: {field or 'the file'}{shown}: {what[:1].lower()}{what[1:]}"


def _choices(
    field: str, whole: type[msgspec.Struct], parts: Mapping[str, type[msgspec.Struct]]
) -> list[str]:
    """The texts that a field of one of these takes."""
    kind = next((kind for part, kind in parts.items() if part in field), whole)
    hint = get_type_hints(kind)[field.rpartition(".")[2]]
    literals = [hint, *get_args(hint)]  # one that may be left out is a union with None
    return [word for one in literals if get_origin(one) is Literal for word in get_args(one)]


def _value_at(content: Any, field: str) -> Any:
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", field):
        try:
            content = content[int(index)] if index else content[name]
        except (KeyError, IndexError, TypeError):
            return None
    return content if not isinstance(content, dict | list) else None


def _refuse_doubles(path: Path, config: Config) -> None:
    seen: dict[str, int] = {}
    for i, cluster in enumerate(config.clusters):
        if cluster.name in seen:
            raise ConfigError(
                f"{path}: clusters[{i}].name: {cluster.name!r} is already the name of "
                f"clusters[{seen[cluster.name]}]; names are unique"
            )
        seen[cluster.name] = i


def unknown_services(config: Config, snapshots: Iterable[Snapshot]) -> list[Problem]:
    """The configured names behind which there is no Service port (yet)."""
    names = NameTable(config.aliases())
    for snapshot in snapshots:
        if snapshot.service is not None:
            names.add(snapshot.service)
    return [
        Problem(f"clusters[{i}]", "service", cluster.service, names.missing_text(cluster.name))
        for i, cluster in enumerate(config.clusters)
        if names.resolve(cluster.name) is None
    ]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a host name or IP literal without brackets, and a port (0: any).

    An empty host is every interface, by IPv4 and by IPv6.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, every: str = "0.0.0.0") -> Address:  # noqa: S104 - where a client connects, it is this machine
    """Read ``HOST:PORT`` (``[::1]:18000`` for IPv6).

    Args:
        text: see above.
        every: the host of ``:18000``; "" for who listens.

    Raises:
        ConfigError: naming the value and the fix.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif _is_ipv6(host):
        raise ConfigError(f"{text!r}: put an IPv6 address in brackets: [{host}]:{port}")
    elif _NO_HOST.search(host):
        colon = ""
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise ConfigError(f"{text!r} is not HOST:PORT; for example 127.0.0.1:18000")
    return Address(host or every, int(port))


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6  # noqa: PLR2004
    except ValueError:
        return False


def refuse_open(address: Address, *, flag: str, insecure: bool, fix: str) -> None:
    """A port that knows nobody is open beyond this machine only on an explicit wish.

    Raises:
        ConfigError: when ``address`` isn't loopback and ``insecure`` is false.
    """
    if insecure or address.is_loopback:
        return
    raise ConfigError(
        f"{flag} {address}: would answer anybody who can reach it. {fix}, listen on 127.0.0.1, or "
        f"pass --insecure where the network itself is trusted (a NetworkPolicy, a private test "
        f"network)."
    )
