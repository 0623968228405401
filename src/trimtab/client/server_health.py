"""How one control plane does, as gRFC A78 counts it. Pure."""

from __future__ import annotations

from collections import Counter

from trimtab.xds import type_urls


class ServerHealth:
    """Connections to one server, and what it sent.

    Attributes:
        connected: whether a stream works, or the first one is being opened; False from a stream that
            ended without a response until the next response (gRFC A57); None: it is not needed now.
        failures: how often it went from good to bad.
        received: resources by type URL and by whether they were valid. All keys are there from the
            start, so that it may be read while it is counted.
    """

    __slots__ = ("connected", "failures", "received")

    def __init__(self) -> None:
        self.connected: bool | None = None
        self.failures = 0
        self.received: Counter[tuple[str, bool]] = Counter(
            {(kind, valid): 0 for kind in type_urls.ORDER for valid in (True, False)}
        )

    def opened(self) -> None:
        """A stream is begun."""
        if self.connected is None:
            self.connected = True

    def answered(self) -> None:
        """A response came."""
        self.connected = True

    def ended(self, *, heard: bool) -> None:
        """A stream ended, or could not be opened. ``heard``: it had brought a response."""
        if heard:
            return
        self.failures += self.connected is not False
        self.connected = False

    def left(self) -> None:
        """Nobody needs the server now."""
        self.connected = None
