"""Delta (incremental) xDS: requests and responses carry only what changes.

Resources have versions of their own. A client that reconnects says which it has, and receives what
differs. A name that is subscribed to again is sent again, and a name that nothing answers to is
reported as removed.
"""

from __future__ import annotations

from trimtab.xds import wire_pb2 as wire
from trimtab.xds.parsing import parsed
from trimtab.xds.resources import Resource
from trimtab.xds.server_entry import Entry
from trimtab.xds.server_events import Subscribed
from trimtab.xds.server_stream import Stream, resource_error
from trimtab.xds.server_subscription import MAX_MESSAGE, Subscription

_ROOM = MAX_MESSAGE - 4096  # bytes for resources, errors and removed names in a response
_FRAME = 64  # bytes around a resource


def receive(stream: Stream, raw: bytes) -> bool:
    """Take in a DeltaDiscoveryRequest.

    Returns:
        Whether more than an ACK.

    Raises:
        ProtocolError: it breaks a rule or a limit; the stream must end.
    """
    request = parsed(wire.DeltaDiscoveryRequest, raw)
    for part in (
        request.resource_names_subscribe,
        request.resource_names_unsubscribe,
        request.initial_resource_versions,
    ):
        stream.check_count(len(part))
    sub = stream.subscription(request.type_url, request.node if request.HasField("node") else None)
    if sub is None:
        return False
    error = request.error_detail if request.HasField("error_detail") else None
    if request.response_nonce:
        stream.answered(sub, request.response_nonce, error)
    first = not sub.started
    # Changes of the subscription count whatever the nonce: they are not repeated.
    _subscribe(stream, sub, request)
    names = request.resource_names_subscribe or request.resource_names_unsubscribe
    return first or error is not None or bool(names)


def build(stream: Stream, sub: Subscription) -> bytes | None:
    """The next response of a type, None if the client has everything."""
    sub.hold_unknown()
    errors: list[wire.ResourceError] = []
    sent: list[tuple[Entry, Resource]] = []
    removed = list(sub.farewells)
    room = _ROOM - sum(map(len, removed))
    sub.farewells.clear()
    most = sub.most_in_one
    while (
        sub.dirty
        and room > 0
        and len(sent) < most
        and (not (sent or removed or errors) or sub.next_is_ready)
    ):
        entry = sub.entries[next(iter(sub.dirty))]
        target = sub.target(entry)
        if target is not None and sub.is_new(entry, target):
            room -= len(target.body) + len(entry.name) + _FRAME
            if (sent or removed) and (room < 0 or entry.alone):
                break
            sub.was_sent(entry, target)
            sent.append((entry, target))
            if entry.alone:
                room = 0
        elif target is None and (entry.sent or entry.due):
            removed.append(entry.name)
            room -= len(entry.name) + _FRAME
        text = sub.absence_text(entry)
        if text:
            errors.append(resource_error(entry.name, text))
            room -= len(text) + len(entry.name)
        entry.due = False
        sub.looked_at(entry.name)
        if target is None:
            entry.gone()
            if not entry.explicit:
                sub.drop(entry.name)
    if not (sent or removed or errors or sub.answer_due):
        return None
    sub.answer_due = False
    return _response(stream, sub, sent, removed, errors)


def _subscribe(stream: Stream, sub: Subscription, request: wire.DeltaDiscoveryRequest) -> None:
    names = list(dict.fromkeys(request.resource_names_subscribe))
    dropped = list(dict.fromkeys(request.resource_names_unsubscribe))
    first, sub.started = not sub.started, True
    initial = dict(request.initial_resource_versions) if first else {}
    all_wanted = "*" in names or (first and sub.full_set and not names and not dropped)
    named = [name for name in names if name != "*"]
    stream.check_names(sub, named)
    if all_wanted:
        sub.want_all({n: v for n, v in initial.items() if n not in named})
    for name in named:
        entry = sub.add(name)
        entry.asked = sub.nonce
        if name in initial:
            entry.resume(initial[name])
    if "*" in dropped:
        sub.want_named_only()
    for name in dropped:
        if sub.wildcard:
            sub.leave_to_wildcard(name)
        else:
            sub.drop(name)
    if named or all_wanted:
        told = ("*", *named) if all_wanted else tuple(named)
        stream.events.append(Subscribed(sub.type_url, told))


def _response(
    stream: Stream,
    sub: Subscription,
    sent: list[tuple[Entry, Resource]],
    removed: list[str],
    errors: list[wire.ResourceError],
) -> bytes:
    if len(sent) == 1 and not removed and not errors:
        nonce, message = stream.response_of_one(sent[0][1])
    else:
        nonce = stream.next_nonce()
        message = wire.DeltaDiscoveryResponse(
            resources=[
                wire.Resource(name=entry.name, version=target.version, resource=target.body)
                for entry, target in sent
            ],
            type_url=sub.type_url,
            nonce=nonce,
            removed_resources=removed,
            resource_errors=errors,
        ).SerializeToString()
    sub.await_answer(nonce, sent[0][1].version if len(sent) == 1 else "", sent, removed)
    return message
