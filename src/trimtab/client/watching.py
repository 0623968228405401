"""Where a channel's endpoints come from: a fixed list, or a control plane.

A door hands in a ``Watcher`` and gets a ``Watch``; it can't tell which of the two is behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from trimtab.client import bootstrap as bootstraps
from trimtab.client.bootstrap import Bootstrap
from trimtab.discovery.static import snapshot_of
from trimtab.errors import ConfigError
from trimtab.model import Endpoint, Snapshot

if TYPE_CHECKING:
    from trimtab.balancer import Balancer

_SCHEME = "xds:///"


FIXED = "the caller's fixed list"


class Watcher(Protocol):
    """Who wants to know a cluster's endpoints. Called from any thread; must not block."""

    def updated(self, snapshot: Snapshot) -> None:
        """Take these endpoints from now on."""

    def failed(self, reason: str) -> None:
        """Take note that no snapshot can be had now; an earlier one stays in use.

        ``reason`` is a text for users: what is wrong, with which control plane, what to do.
        """


class Watch(Protocol):
    """What a watcher holds while it wants to be told."""

    @property
    def origin(self) -> str:
        """Whom the endpoints come from, for messages: ``control plane 127.0.0.1:18000``."""

    def close(self) -> None:
        """Hear no more. Idempotent, from any thread."""


class Closable(Protocol):
    """What ends when it is told to."""

    def close(self) -> None:
        """End it. Idempotent, from any thread."""


class Fixed:
    """A list that never changes needs nobody to watch it."""

    origin = FIXED

    def close(self) -> None:
        """See ``Watch``."""


def report(balancer: Balancer, bootstrap: Bootstrap) -> Closable:
    """Have what a balancer does reported to the control plane, unless the environment forbids it."""
    # Imported where they are needed: a fixed list works without any of the xDS modules.
    from trimtab.client import load_tally, subscription  # noqa: PLC0415

    if not load_tally.wanted():
        return Fixed()
    return subscription.report(load_tally.Tally(balancer), bootstrap)


def service_name(target: str) -> str:
    """The service that a target names: what follows ``xds:///``, or the target itself.

    Raises:
        ConfigError: the target is no text, is empty or has another scheme.
    """
    name = target.removeprefix(_SCHEME) if isinstance(target, str) else ""
    if not name or "://" in name or name.startswith(("dns:", "unix:", "ipv4:", "ipv6:", "xds:")):
        raise ConfigError(
            f"target {target!r} does not name a service; "
            "use xds:///SERVICE.NAMESPACE:PORT, such as xds:///orders.shop:grpc"
        )
    return name


def watch(
    target: str,
    watcher: Watcher,
    *,
    endpoints: Iterable[str | Endpoint] | None = None,
    bootstrap: str | Mapping[str, Any] | Bootstrap | None = None,
) -> Watch:
    """Begin to tell ``watcher`` of the target's endpoints. Returns at once.

    Args:
        target: ``xds:///NAME`` or ``NAME``.
        watcher: kept alive until the watch is closed.
        endpoints: a fixed list; then no control plane is asked.
        bootstrap: see ``client.bootstrap.load``; read only when ``endpoints`` is None.

    Raises:
        ConfigError: a wrong target, endpoint or bootstrap, or both of the latter two.
    """
    name = service_name(target)
    if endpoints is None:
        # Imported where it is needed: a fixed list works without any of the xDS modules.
        from trimtab.client.subscription import subscribe  # noqa: PLC0415

        return subscribe(name, watcher, bootstraps.load(bootstrap))
    if bootstrap is not None:
        raise ConfigError(
            f"channel {target!r}: endpoints= and bootstrap= exclude each other; "
            "a fixed list needs no control plane"
        )
    watcher.updated(snapshot_of(name, endpoints))
    return Fixed()
