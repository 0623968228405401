"""What clients have, as a client status discovery service (CSDS, envoy.service.status.v3) says it. Pure.

Everything is in ``generic_xds_configs``: one entry per resource that a stream subscribes to. A stream
is a client of its own: an Envoy with separate discovery services comes several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from google.protobuf import any_pb2, timestamp_pb2

from trimtab.errors import ProtocolError
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.parsing import parsed
from trimtab.xds.server_client import Client
from trimtab.xds.server_events import ResourceStatus

_Generic = wire.ClientConfig.GenericXdsConfig
_STATES = {
    "waiting": (wire.ClientConfig.NOT_SENT, _Generic.REQUESTED),
    "sent": (wire.ClientConfig.STALE, _Generic.REQUESTED),
    "acked": (wire.ClientConfig.SYNCED, _Generic.ACKED),
    "nacked": (wire.ClientConfig.ERROR, _Generic.NACKED),
    "absent": (wire.ClientConfig.NOT_SENT, _Generic.DOES_NOT_EXIST),
}


class StatusQuery:
    """Which clients are asked about.

    Args:
        request: an encoded ``ClientStatusRequest``.

    Attributes:
        contents: the resources themselves are wanted, not only their versions.

    Raises:
        ProtocolError: it can't be read, or asks by something else than node ids.
    """

    def __init__(self, request: bytes) -> None:
        message = parsed(wire.ClientStatusRequest, request)
        self.contents = not message.exclude_resource_contents
        self._wanted = [_matcher(matcher) for matcher in message.node_matchers]

    def matches(self, node_id: str) -> bool:
        """Whether a client is one of those; without a condition all are."""
        return not self._wanted or any(fits(node_id) for fits in self._wanted)


def _matcher(matcher: wire.NodeMatcher) -> Callable[[str], bool]:
    if matcher.node_metadatas:
        raise ProtocolError("node_matchers.node_metadatas: not supported; match by node_id")
    by = matcher.node_id
    kind = by.WhichOneof("match_pattern")
    if kind is None:
        raise ProtocolError("node_matchers.node_id: empty; give exact, prefix, suffix or contains")
    if kind in {"safe_regex", "custom"}:
        raise ProtocolError(
            f"node_matchers.node_id.{kind}: not supported; use exact, prefix, suffix or contains"
        )
    fold: Callable[[str], str] = str.casefold if by.ignore_case else str
    text = fold(getattr(by, kind))
    if kind == "exact":
        return lambda node_id: fold(node_id) == text
    if kind == "prefix":
        return lambda node_id: fold(node_id).startswith(text)
    if kind == "suffix":
        return lambda node_id: fold(node_id).endswith(text)
    return lambda node_id: text in fold(node_id)


def client_status(
    client: Client | None,
    scope: str,
    resources: Iterable[ResourceStatus],
    unix: Callable[[float], float],
    content: Callable[[ResourceStatus], bytes | None],
) -> bytes:
    """One stream, as an encoded ``ClientStatusResponse``. Joined, those of several are one of all.

    Args:
        client: who it is; None before its first request.
        scope: which of that client's streams.
        resources: what it subscribes to.
        unix: makes Unix seconds of a time in ``resources``.
        content: the encoded Any of what a client accepted; None where it is not known any more, or
            not wanted.
    """
    whole = wire.ClientStatusResponse()
    config = whole.config.add(client_scope=scope)
    if client is not None:
        config.node.id = client.node_id
        config.node.user_agent_name = client.user_agent
        if client.place is not None:
            config.node.locality.zone = client.place.zone
    for status in resources:
        shown = config.generic_xds_configs.add(
            type_url=status.type_url, name=status.name, version_info=status.acked
        )
        shown.config_status, shown.client_status = _STATES[status.state]
        since = None if status.since is None else _timestamp(unix(status.since))
        if status.error:
            shown.error_state.details = status.error
            if since is not None:
                shown.error_state.last_update_attempt.CopyFrom(since)
        elif since is not None:
            shown.last_updated.CopyFrom(since)
        body = content(status)
        if body is not None:
            shown.xds_config.CopyFrom(any_pb2.Any.FromString(body))
    return whole.SerializeToString()


def _timestamp(unix_s: float) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromNanoseconds(int(unix_s * 1e9))
    return stamp
