"""gRPC's own health checking of each endpoint (grpc/doc/health-checking.md).

gRPC watches a server's health on the connection of a channel whose policy is round_robin, and takes
the channel to TRANSIENT_FAILURE when the server says NOT_SERVING. A call that was just leaving would
fail of that. So calls go over a channel that doesn't watch, and a second channel, which makes none,
watches. Both share one subchannel, that is one connection: they have the same arguments, one of them
unique, and only the service config differs, which is no part of a subchannel's identity.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from trimtab.errors import ConfigError

Options = Sequence[tuple[str, Any]]

SERVICE_CONFIG = "grpc.service_config"
_POOL = "grpc.use_local_subchannel_pool"
_PAIR = "trimtab.pair"  # gRPC ignores arguments that it doesn't know, and compares them
_numbers = itertools.count()


def watched_name(config: str, health: str | None, where: str) -> str | None:
    """What the health service is asked for; "" is the server as a whole, None: nothing.

    Args:
        config: the caller's service config, JSON or ""; its ``healthCheckConfig`` counts where
            ``health`` is None.
        health: the keyword.
        where: whose it is, for messages.

    Raises:
        ConfigError: it is no text.
    """
    if health is None and config:
        check = json.loads(config).get("healthCheckConfig")
        health = check.get("serviceName") if isinstance(check, dict) else check
    if not isinstance(health, str | None):
        raise ConfigError(
            f"{where}: health={health!r} is no text; give the name that servers' health service "
            "knows, '' for the server as a whole"
        )
    return health


def paired(options: Options, health: str) -> tuple[Options, Options]:
    """The options of one endpoint's channel for calls, and of the one that watches beside it."""
    shared = [(key, value) for key, value in options if key not in {_POOL, SERVICE_CONFIG}]
    shared.append((_PAIR, next(_numbers)))
    config = [(key, value) for key, value in options if key == SERVICE_CONFIG]
    watch = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": health},
    }
    return [*shared, *config], [*shared, (SERVICE_CONFIG, json.dumps(watch))]
