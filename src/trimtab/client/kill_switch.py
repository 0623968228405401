"""The kill switch: with ``TRIMTAB_DISABLE`` in the environment the factories make gRPC's own channels.

HTTP transports send requests where their URLs say. Read whenever a channel or transport is made. What only trimtab knows (``policy=``, ``locality=``, ``labels=``) has no
effect then; the log says so, once. The channel of an ``xds:///`` target is gRPC's own xDS client, which
takes its bootstrap from the environment, one for the whole process.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from trimtab.client import native_arguments
from trimtab.client.bootstrap import (
    FILE_VARIABLE,
    SHORT_VARIABLE,
    TEXT_VARIABLE,
    Bootstrap,
    Server,
    load,
)
from trimtab.client.channel_spec import BootstrapSource, Endpoints, Options, target_of
from trimtab.client.watching import service_name
from trimtab.discovery.static import snapshot_of
from trimtab.errors import ConfigError

VARIABLE = "TRIMTAB_DISABLE"
_NO = frozenset({"", "0", "false", "no", "off"})
_ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})

_log = logging.getLogger("trimtab.client")
_said: set[str] = set()


def disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment asks for native channels; ``0``, ``false``, ``no`` and ``off`` don't."""
    found = (os.environ if environ is None else environ).get(VARIABLE, "")
    return found.strip().lower() not in _NO


def native(
    target: str,
    options: Options | None,
    endpoints: Endpoints | None,
    bootstrap: BootstrapSource | None,
) -> tuple[str, Options]:
    """Target and options of the native channel in a trimtab channel's place.

    Raises:
        ConfigError: as for trimtab channels; or several endpoints of which one is a host name, which
            no native target can name.
    """
    _say("channels are gRPC's own; policy=, locality= and labels= have no effect")
    service = service_name(target)
    given = native_arguments.options(target, options)
    if endpoints is None:
        _tell_grpc(bootstrap)
        return f"xds:///{service}", given
    named = dict(given)
    defaults = {"grpc.service_config": _ROUND_ROBIN, "grpc.default_authority": service}
    own = tuple((key, value) for key, value in defaults.items() if key not in named)
    return _listed(service, endpoints), (*own, *given)


def http_disabled() -> bool:
    """Whether the environment asks HTTP requests to go where their URLs say; the log says so, once."""
    if not disabled():
        return False
    _say("HTTP requests go where their URLs say; no argument of their transports has an effect")
    return True


def _say(what: str) -> None:
    if what not in _said:
        _said.add(what)
        _log.warning("%s is set: %s", VARIABLE, what)


def _listed(service: str, endpoints: Endpoints) -> str:
    targets = [target_of(endpoint) for endpoint in snapshot_of(service, endpoints).endpoints]
    if not targets:
        raise ConfigError(f"{service}: endpoints= is empty; give at least one")
    schemes = {where.partition(":")[0] for where in targets}
    if len(targets) > 1 and ("dns" in schemes or len(schemes) > 1):
        raise ConfigError(
            f"{service}: {VARIABLE} is set, and a native channel takes one host name, or addresses of "
            "one family; give such a list, or unset it"
        )
    scheme = schemes.pop()
    return (
        targets[0]
        if scheme == "dns"
        else f"{scheme}:" + ",".join(where.removeprefix(f"{scheme}:") for where in targets)
    )


def _tell_grpc(bootstrap: BootstrapSource | None) -> None:
    """Put the bootstrap where gRPC looks for it, unless it is there."""
    there = os.environ.get(FILE_VARIABLE) or os.environ.get(TEXT_VARIABLE)
    if bootstrap is None and there:
        return
    text = _as_json(load(bootstrap))
    if there and there != text:
        _log.warning(
            "%s is set, and gRPC's own channels share one bootstrap: that of the environment is used "
            "in place of bootstrap= and %s", VARIABLE, SHORT_VARIABLE
        )  # fmt: skip
        return
    os.environ[TEXT_VARIABLE] = text


def _as_json(bootstrap: Bootstrap) -> str:
    node, place = bootstrap.node, bootstrap.node.locality
    identity: dict[str, Any] = {
        "id": node.id,
        "cluster": node.cluster,
        "locality": {"region": place.region, "zone": place.zone, "sub_zone": place.sub_zone},
        "metadata": dict(node.metadata),
    }
    return json.dumps(
        {"xds_servers": [_server(s) for s in bootstrap.servers], "node": identity}, sort_keys=True
    )


def _server(server: Server) -> dict[str, Any]:
    known = server.credentials
    credentials: dict[str, Any] = {"type": known.kind}
    if known.kind == "tls":
        files = {
            "ca_certificate_file": known.ca_file,
            "certificate_file": known.certificate_file,
            "private_key_file": known.private_key_file,
        }
        credentials["config"] = {key: value for key, value in files.items() if value}
    written: dict[str, Any] = {
        "server_uri": server.uri,
        "channel_creds": [credentials],
        "server_features": list(server.features),
    }
    if known.token_file:
        token = {"type": "jwt_token_file", "config": {"jwt_token_file": known.token_file}}
        written["call_creds"] = [token]
    return written
