"""State of the world: a request lists everything wanted, a response of CDS or LDS everything there.

What a CDS or LDS response leaves out has been deleted; EDS and RDS send only what changed, and
leaving out means nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from trimtab.xds import type_urls
from trimtab.xds import wire_pb2 as wire
from trimtab.xds.parsing import parsed
from trimtab.xds.resources import Resource, content_version
from trimtab.xds.server_entry import Entry
from trimtab.xds.server_events import Subscribed, TooLarge
from trimtab.xds.server_stream import Stream, resource_error
from trimtab.xds.server_subscription import MAX_MESSAGE, Subscription

_ROOM = MAX_MESSAGE - 4096  # bytes for resources and errors in a response
_ENDS_KEPT = 128
_NOTHING = content_version(b"")  # the version of a full set without resources


def receive(stream: Stream, raw: bytes) -> bool:
    """Take in a DiscoveryRequest.

    Returns:
        Whether more than an ACK.

    Raises:
        ProtocolError: it breaks a rule or a limit; the stream must end.
    """
    for sub in stream.subscriptions.values():
        if _is_plain_ack(sub, raw):
            stream.answered(sub, next(iter(sub.outstanding)), None)
            return False
    request = parsed(wire.DiscoveryRequest, raw)
    stream.check_count(len(request.resource_names))
    found = stream.subscription(
        request.type_url, request.node if request.HasField("node") else None
    )
    if found is None:
        return False
    nonce = request.response_nonce
    if nonce and found.nonce:
        # Stale: answered before, and not the last. A response that still waits for its answer is
        # not, though another one followed it: under steady change new names would starve.
        if nonce != found.nonce and nonce not in found.outstanding:
            return False
        stream.answered(
            found, nonce, request.error_detail if request.HasField("error_detail") else None
        )
    _subscribe(stream, found, request)
    _remember_ack(found, request, raw)
    return True


def build(stream: Stream, sub: Subscription) -> bytes | None:
    """The next response of a type, None if the client has everything.

    None too while a full set would delete what this stream has not sent yet: clusters that the client has from
    an earlier one, which this process has never heard of, or of which the client refused the present version.
    For the latter it keeps the older one, and hears no more of this type until they change or go; once it
    has accepted a response of this stream, one that it refuses holds up nothing.
    """
    if sub.waits or may_delete_older(stream, sub) or _may_delete_unheard(stream, sub):
        return None
    sub.hold_unknown()
    return _full_set(stream, sub) if sub.full_set else _changed_only(stream, sub)


def may_delete_older(stream: Stream, sub: Subscription) -> bool:
    """Whether a full set would lack what the client refused, and may have an older version of.

    An Envoy asks for the endpoints of each cluster that it has: one whose are not asked for it never had.
    """
    if not sub.inherits:
        return False
    refused = sub.without_good()
    if sub.type_url == type_urls.CDS and stream.is_aggregated_envoy:
        assignments = stream.subscriptions.get(type_urls.EDS)
        return assignments is not None and any(name in assignments.entries for name in refused)
    return any(True for _ in refused)


def _may_delete_unheard(stream: Stream, sub: Subscription) -> bool:
    """Whether a full set may lack a cluster that an Envoy has from a replica which knew it earlier.

    Envoy would delete it. It doesn't say which clusters it has, but as a stream begins it asks for
    the endpoints of all of them: while this process has never heard of one, the full set waits, as
    long as patience lasts. Silence changes nothing for an Envoy.
    """
    if not (sub.returned and sub.patient and sub.wildcard and sub.type_url == type_urls.CDS):
        return False
    assignments = stream.subscriptions.get(type_urls.EDS)
    sub.returned = assignments is None or assignments.any_unheard()
    return sub.returned


def _subscribe(stream: Stream, sub: Subscription, request: wire.DiscoveryRequest) -> None:
    names = dict.fromkeys(request.resource_names)
    first, sub.started = not sub.started, True
    if first:
        sub.fresh = not request.version_info
        sub.inherits = sub.full_set and not sub.fresh
        # Of other clients it isn't known that their EDS request follows at once.
        sub.returned = stream.is_aggregated_envoy and request.version_info not in ("", _NOTHING)
    sub.named = sub.named or bool(names)
    # A client that never named anything wants all, but of CDS and LDS only.
    all_wanted = "*" in names or (sub.full_set and not sub.named)
    names.pop("*", None)
    added = [n for n in names if n not in sub.entries or not sub.entries[n].explicit]
    stream.check_names(sub, added)
    for name in [n for n, e in sub.entries.items() if e.explicit and n not in names]:
        sub.drop(name)
        if all_wanted and sub.wildcard:
            sub.want_all()
    for name in added:
        # A first request with a version comes from a client that has seen an earlier stream.
        sub.add(name).resumed = first and bool(request.version_info)
    if all_wanted and not sub.wildcard:
        sub.want_all()
        added.insert(0, "*")
    elif not all_wanted:
        sub.want_named_only()
    if added:
        stream.events.append(Subscribed(sub.type_url, tuple(added)))


def _remember_ack(sub: Subscription, request: wire.DiscoveryRequest, raw: bytes) -> None:
    """Know an ACK again by what it has between version and nonce: most requests differ only there.

    By its hash: an Envoy lists every name that it follows in each ACK.
    """
    head, tail = _ends(request.version_info, request.response_nonce)
    plain = not request.HasField("error_detail") and raw.startswith(head) and raw.endswith(tail)
    sub.ack_middle = _middle(raw, head, tail) if plain and request.version_info else None


def _middle(raw: bytes, head: bytes, tail: bytes) -> int:
    return hash(raw[len(head) : len(raw) - len(tail)])


def _is_plain_ack(sub: Subscription, raw: bytes) -> bool:
    """Whether a request is the ACK of the oldest response, and nothing else, without parsing it."""
    if sub.ack_middle is None or not sub.outstanding:
        return False
    nonce = next(iter(sub.outstanding))
    head, tail = _our_ends(sub.outstanding[nonce].version, nonce)
    return (
        raw.endswith(tail)
        and raw.startswith(head)
        and len(raw) >= len(head) + len(tail)
        and _middle(raw, head, tail) == sub.ack_middle
    )


def _ends(version: str, nonce: str) -> tuple[bytes, bytes]:
    """What a request begins and ends with."""
    return (
        wire.DiscoveryRequest(version_info=version).SerializeToString(),
        wire.DiscoveryRequest(response_nonce=nonce).SerializeToString(),
    )


# Of our own responses only, which are short: a change brings the same two from all streams.
_our_ends = lru_cache(maxsize=_ENDS_KEPT)(_ends)


def _changed_only(stream: Stream, sub: Subscription) -> bytes | None:
    errors: list[wire.ResourceError] = []
    sent: list[tuple[Entry, Resource]] = []
    room = _ROOM
    while sub.dirty and (not (sent or errors) or sub.next_is_ready):
        entry = sub.entries[next(iter(sub.dirty))]
        target = sub.target(entry)
        if target is None:
            # What is gone can't be told: only CDS deletes endpoints, only LDS routes.
            text = None if entry.real else sub.absence_text(entry)
            if text:
                errors.append(resource_error(entry.name, text))
                room -= len(text) + len(entry.name)
        elif sub.is_new(entry, target):
            # Envoy applies nothing of a response with one bad resource: changed content goes alone.
            alone = entry.real or entry.alone
            room -= len(target.body)
            if sent and (alone or room < 0):
                break
            sub.was_sent(entry, target)
            sent.append((entry, target))
            if alone:
                room = 0
        entry.due = False
        sub.looked_at(entry.name)
        if room <= 0 or len(sent) == sub.most_in_one:
            break
    if not sent and not errors:
        return None
    return _response(stream, sub, [target for _, target in sent], sent, (), errors)


def _full_set(stream: Stream, sub: Subscription) -> bytes | None:
    errors: list[wire.ResourceError] = []
    needed = sub.answer_due or bool(sub.farewells)
    for name in sub.dirty:
        entry = sub.entries[name]
        target = sub.target(entry)
        needed = needed or (bool(entry.sent) if target is None else sub.is_new(entry, target))
        text = sub.absence_text(entry)
        if text:
            errors.append(resource_error(name, text))
    removed = list(sub.farewells)
    sub.dirty.clear()
    sub.raw.clear()
    sub.farewells.clear()
    sub.answer_due = False
    if not needed and not errors:
        return None
    shown: list[Resource] = []
    sent: list[tuple[Entry, Resource]] = []
    for entry in list(sub.entries.values()):
        target = _kept(sub, entry)
        if target is not None:
            # Accepted, and nothing else under way: the client can't find fault with it.
            settled = entry.acked == entry.sent == target.version
            sub.was_sent(entry, target)
            shown.append(target)
            if not settled:
                sent.append((entry, target))
        elif entry.sent and sub.target(entry) is None:
            removed.append(entry.name)
            entry.gone()
        elif entry.sent not in entry.refused:
            # Left out, since its present version was refused; the one that is under way, which the
            # client may take first, is so deleted.
            entry.sent = entry.acked = ""
        if target is None and not entry.explicit and not sub.exists(entry):
            sub.drop(entry.name)
    return _response(stream, sub, shown, sent, removed, errors)


def _kept(sub: Subscription, entry: Entry) -> Resource | None:
    """What a full set shows under a name.

    Of a resource whose present version was NACKed that is its last good version, if there was one:
    leaving it out would delete it.
    """
    target = sub.target(entry)
    if target is None or target.version not in entry.refused:
        return target
    entry.due = False
    return entry.good


def _response(
    stream: Stream,
    sub: Subscription,
    shown: Sequence[Resource],
    sent: Sequence[tuple[Entry, Resource]],
    removed: Sequence[str],
    errors: Sequence[wire.ResourceError],
) -> bytes:
    version = _version_of(shown)
    if len(shown) == 1 and not errors:
        nonce, message = stream.response_of_one(shown[0])
    else:
        nonce = stream.next_nonce()
        message = wire.DiscoveryResponse(
            version_info=version,
            resources=[target.body for target in shown],
            type_url=sub.type_url,
            nonce=nonce,
            resource_errors=errors,
        ).SerializeToString()
    sub.await_answer(nonce, version, sent, removed)
    if len(message) > MAX_MESSAGE:
        stream.events.append(TooLarge(sub.type_url, len(message), MAX_MESSAGE))
    return message


def _version_of(shown: Sequence[Resource]) -> str:
    """Of one resource its own, else a hash over all, in any order."""
    if len(shown) == 1:
        return shown[0].version
    return content_version("".join(sorted(r.version for r in shown)).encode())
