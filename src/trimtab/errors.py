"""Every exception that trimtab raises.

::

    TrimtabError
    ├── NoEndpoints      a pick has nothing to choose from; says why
    ├── ConfigError      a wrong option or file, found before anything starts
    ├── DiscoveryError   a source failed; the last snapshot stays in use
    ├── ProtocolError    an xDS peer broke the rules; says which field
    └── TransportError   an attempt failed below the RPC

A message says what happened, to which object, what trimtab does now and what you can do. Through
the gRPC doors users see ``grpc.RpcError`` with the standard status and this text.
"""

from __future__ import annotations


class TrimtabError(Exception):
    """The base of all errors of this package."""


class NoEndpoints(TrimtabError):  # noqa: N818 - the established name of this condition
    """A pick found no endpoint that may get a request; the text says why."""


class ConfigError(TrimtabError):
    """A wrong option, environment variable or file, found before anything starts."""


class DiscoveryError(TrimtabError):
    """A source of endpoints failed. The last good snapshot stays in use."""


class ProtocolError(TrimtabError):
    """An xDS peer sent something that breaks the protocol or a resource's rules.

    The text is what a NACK carries: the resource, the field, the bad value and the rule.
    """


class TransportError(TrimtabError):
    """An attempt failed below the RPC. ``endpoint`` is ``host:port``; ``__cause__`` is kept."""

    def __init__(self, message: str, *, endpoint: str) -> None:
        super().__init__(message)
        self.endpoint = endpoint
