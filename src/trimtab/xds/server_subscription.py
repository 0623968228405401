"""What one stream has subscribed to of one type, and what of it the client has.

State-of-the-world and delta differ in messages; this bookkeeping is the same for both. Nothing is
queued: a changed cluster marks names, and what to send is decided when a message is built.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from trimtab.xds import type_urls
from trimtab.xds.catalog import Catalog, Client, ClientKind
from trimtab.xds.resources import Resource
from trimtab.xds.server_entry import Entry, Sent
from trimtab.xds.server_events import ResourceStatus

MAX_MESSAGE = 3_500_000
"""Bytes of a response. Native gRPC resets the stream above 4 MiB and asks again, for ever."""

MAX_ASSIGNMENTS = 2000
"""In one response: to put more together holds up the other streams. Clusters are not so split: an
Envoy begins to serve when it has the first response of them."""

SLICE = 100
"""Resources that are encoded in a row: about 10 ms, where each has ten endpoints."""

MOST_SPELLINGS = 16
"""Names of one cluster, per type and stream, beside those under which everybody gets it. As many as there are
without a domain that the client chooses are 12."""

_SLICE_BYTES = 64 << 10
_MAX_OUTSTANDING = 1000  # responses without an answer, and resources in them, beside two per name
_COUNTED = 8  # responses: each time that there are so many more, what is in them is counted
_NEAR_TEXTS = 20  # unknown names per stream and type for which similar ones are looked up
_REJECT_WHOLE = frozenset({ClientKind.ENVOY, ClientKind.OTHER})
# Envoy applies nothing of a response with one bad resource; gRPC applies the good ones (A46).


class Subscription:
    """All names of one type on one stream."""

    __slots__ = ("_aliases", "_catalog", "_client", "_expanded", "_generation", "_held",
                 "_initial", "_near_texts", "_soft", "ack_middle", "answer_due", "dirty",
                 "entries", "explicit", "farewells", "fresh", "full_set", "inherits", "named", "nonce",
                 "outstanding", "patient", "raw", "returned", "started", "type_url", "wildcard")  # fmt: skip

    def __init__(self, type_url: str, catalog: Catalog, client: Client) -> None:
        self.type_url = type_url
        self.full_set = type_url in type_urls.FULL_SET
        self.wildcard = False
        self.started = False  # a request was read
        self.named = False  # names were given once, so that an empty list means none
        self.patient = False  # what the client has and this process never heard of may yet come
        self.fresh = False  # state of the world, and the client can't have had any of it before
        self.inherits = False  # state of the world, and all that it has is of an earlier stream
        self.returned = False  # state of the world, and the client may have what is unheard of here
        self.explicit = 0  # how many names were asked for
        self.answer_due = False
        self.farewells: dict[str, None] = {}  # to be reported as removed
        self.entries: dict[str, Entry] = {}
        self.dirty: dict[str, None] = {}  # ordered
        self.raw: dict[str, None] = {}  # of them those that have not been prepared
        self.outstanding: dict[str, Sent] = {}
        self.nonce = ""  # of the last response
        # The hash of what the client's ACKs have between version and nonce.
        self.ack_middle: int | None = None
        self._catalog = catalog
        self._client = client
        self._aliases: dict[str, tuple[str, ...]] = {}  # by cluster: its names but its own
        self._initial: dict[str, str] = {}
        self._held: dict[str, None] = {}  # names that wait for the catalog to be complete
        self._soft: dict[str, None] = {}  # names that may come to mean another cluster
        self._expanded = False
        self._generation = catalog.generation
        self._near_texts = _NEAR_TEXTS

    # ---- what the client asks ----

    def add(self, name: str) -> Entry:
        """Subscribe to a name; one that is known becomes due again."""
        entry = self.entries.get(name)
        if entry is None:
            entry = self._insert(name)
        if not entry.explicit:
            entry.explicit = True
            self.explicit += 1
        entry.due = True
        entry.told = False
        entry.refused = ()  # who asks again gets an answer, even that one
        self._mark(name)
        return entry

    def drop(self, name: str) -> None:
        """Forget a name and all that the client had of it."""
        entry = self.entries.pop(name, None)
        if entry is None:
            return
        self.fresh = self.fresh and not entry.real
        self.explicit -= entry.explicit
        self.looked_at(name)
        self._soft.pop(name, None)
        self._held.pop(name, None)
        self._unlink(entry)

    def want_all(self, initial: dict[str, str] | None = None) -> None:
        """Subscribe to the wildcard; again, if everything is to be sent once more.

        Args:
            initial: the versions that the client has from an earlier stream, by name.
        """
        self.wildcard = True
        self.answer_due = not initial
        self._initial = initial or {}
        self._expanded = False
        for name, entry in self.entries.items():
            entry.due = True
            self._mark(name)

    def leave_to_wildcard(self, name: str) -> None:
        """Unsubscribe from a name while the wildcard stays: it needs an answer in delta."""
        entry = self.entries.get(name)
        if entry is None:
            return
        if self.exists(entry) and name in self._wildcard_of(entry.cluster):
            entry.explicit = False
            self.explicit -= 1
            entry.due = True
            self._mark(name)
        else:
            self.drop(name)
            self.farewells[name] = None

    def want_named_only(self) -> None:
        """Unsubscribe from the wildcard; names that were asked for stay."""
        if not self.wildcard:
            return
        self.wildcard = False
        for name in [n for n, e in self.entries.items() if not e.explicit]:
            self.drop(name)

    def offers(self, name: str) -> bool:
        """Whether a wildcard of clusters gives this client a cluster under this name."""
        return self._is_offered(name, self._catalog.concerns(self.type_url, name, self._client))

    def offered(self) -> int:
        """How many of the names that were asked for are of this kind."""
        self.refresh()
        entries = self.entries.values()
        return sum(1 for e in entries if e.explicit and self._is_offered(e.name, e.cluster))

    # ---- what changes ----

    def mark(self, clusters: Collection[str]) -> None:
        """Note that the content of clusters changed."""
        for cluster in clusters:
            if self.wildcard and self._expanded:
                self._admit(cluster)
            for name in self._names_of(cluster):
                self.dirty[name] = self.raw[name] = None
        self.refresh()

    def refresh(self) -> None:
        """Resolve names again if clusters came or went, and expand a new wildcard."""
        if self._generation != self._catalog.generation:
            self._generation = self._catalog.generation
            for name in list(self._soft):
                entry = self.entries[name]
                cluster = self._meant_by(name)
                if cluster != entry.cluster:
                    self._unlink(entry)
                    self._link(entry, cluster)
                    self._mark(name)
        if self.wildcard and not self._expanded and self._catalog.synced:
            self._expanded = True
            for name in self._catalog.wildcard(self.type_url, self._client):
                self._admit_name(name)
        if (self._held or self._initial) and self._catalog.complete:
            self._release()

    def _release(self) -> None:
        """The catalog is complete: what nothing answers to is absent."""
        self.dirty.update(self._held)
        self.raw.update(self._held)
        self._held.clear()
        if self._expanded:
            doubted = {n: v for n, v in self._initial.items() if self._doubts(n)}
            self.farewells.update(dict.fromkeys(n for n in self._initial if n not in doubted))
            self._initial = doubted

    def _doubts(self, name: str) -> bool:
        return self.patient and not self._catalog.was_deleted(name, self._client)

    def pending(self) -> bool:
        """Whether a message may be due."""
        return bool(self.dirty or self.farewells) or self.answer_due

    def only_removals(self) -> bool:
        """Whether everything that waits is the end of a resource."""
        return not self.answer_due and all(
            not self.entries[name].due and self.target(self.entries[name]) is None
            for name in self.dirty
        )

    # ---- what to send ----

    @property
    def prepared(self) -> bool:
        """Whether so little is left to encode that a response may do it."""
        return self.waits or (len(self.raw) <= SLICE and self._unready() is None)

    @property
    def next_is_ready(self) -> bool:
        """Whether the first that waits is encoded, if its cluster is large.

        Of large ones only that is prepared, and it begins a response: where many change all the time,
        each is so sent as soon as it can be.
        """
        return not self.dirty or self._is_ready(next(iter(self.dirty)))

    def _unready(self) -> Entry | None:
        """What the next response begins with, if its cluster is large and not encoded.

        What has not changed after all is passed by, as the response does. Where that is so much that it takes
        turns of its own, it is one of those.
        """
        if self.type_url != type_urls.EDS or not self._catalog.any_large:
            return None
        self.hold_unknown()
        unchanged = 0
        for name in self.dirty:
            entry = self.entries[name]
            if not self._is_ready(name):
                return entry
            target = self.target(entry)
            if target is None:
                continue  # it costs a look; state of the world has nothing to tell of most of these
            if self.is_new(entry, target):
                return None
            unchanged += 1
            if unchanged > SLICE:
                return entry
        return None

    def _pass_by(self) -> None:
        """Be done with what has not changed after all: the first that ``_unready`` came by."""
        for name in list(islice(filter(self._has_target, self.dirty), SLICE)):
            self.entries[name].due = False
            self.looked_at(name)

    def _has_target(self, name: str) -> bool:
        return self.target(self.entries[name]) is not None

    def _is_ready(self, name: str) -> bool:
        if self.type_url != type_urls.EDS or not self._catalog.any_large:
            return True
        return self._catalog.is_prepared(self.entries[name].cluster, name, self._client)

    def prepare(self) -> None:
        """Encode some of what waits; the catalog keeps it, for all streams with the same view.

        What changes meanwhile is marked again, and so prepared again. Nothing is decided here:
        whoever never calls this sends the same.
        """
        entry = self._unready()
        if entry is not None:
            if self._is_ready(entry.name):
                self._pass_by()
            elif self._catalog.prepare(entry.cluster, self._client):
                self.target(entry)
            return
        room = _SLICE_BYTES
        for _ in range(min(SLICE, len(self.raw))):
            name, _value = self.raw.popitem()
            if not self._is_ready(name):
                continue  # its turn comes
            target = self.target(self.entries[name])
            room -= 0 if target is None else len(target.body)
            if room < 0:
                break
        if len(self.raw) <= SLICE:
            self.raw = dict.fromkeys(self.raw)  # as small as it is again, for the stream's life

    def looked_at(self, name: str) -> None:
        """It is decided what of a name the client is sent now."""
        for marks in (self.dirty, self.raw):
            marks.pop(name, None)
            if not marks:
                marks.clear()  # what is only popped from stays as large as it ever was

    @property
    def waits(self) -> bool:
        """Whether no full set can be told yet: what it left out, the client would delete."""
        return self.full_set and not self._catalog.complete and not self.fresh

    @property
    def most_in_one(self) -> int:
        """How many resources one response may have, however small they are."""
        return MAX_ASSIGNMENTS if self.type_url == type_urls.EDS else sys.maxsize

    def without_good(self) -> Iterator[str]:
        """The names whose present version the client refused, and of which it has accepted no other here."""
        for name, entry in self.entries.items():
            if entry.refused and entry.good is None:
                target = self.target(entry)
                if target is not None and target.version in entry.refused:
                    yield name

    def hold_unknown(self) -> None:
        """Put aside the names that nothing answers to, as long as that may change by itself."""
        if self._catalog.complete:
            return
        for name in [n for n in self.dirty if not self.exists(self.entries[n])]:
            self.looked_at(name)
            self._held[name] = None

    def target(self, entry: Entry) -> Resource | None:
        """What the client should have under a name; None if nothing."""
        if entry.cluster is not None:
            found = self._catalog.get_of(entry.cluster, self.type_url, entry.name, self._client)
            if found is not None:
                return found
        if entry.real or entry.resumed:
            # It was there, for this stream or an earlier one: the protocol's removal says so, which
            # native gRPC's `ignore_resource_deletion` survives. A Listener that says "missing" it
            # would obey, and a restart that lost one Service would take that down.
            return None
        if self.type_url == type_urls.EDS and not self.fresh:
            # An assignment without endpoints takes down whoever had some.
            return None
        if self.type_url != type_urls.LDS and self._catalog.was_deleted(entry.name, self._client):
            return None
        if not self._catalog.complete:
            return None
        return self._catalog.missing(self.type_url, entry.name, self._client)

    def is_new(self, entry: Entry, target: Resource) -> bool:
        """Whether a resource must be sent. What was NACKed is not sent again."""
        return target.version not in entry.refused and (entry.due or target.version != entry.sent)

    def absence_text(self, entry: Entry) -> str | None:
        """The text for a name that nothing answers to, once; None if it was told."""
        if entry.told or not entry.explicit or self.exists(entry) or not self._catalog.complete:
            return None
        entry.told = True
        cluster = self._catalog.concerns(self.type_url, entry.name, self._client)
        if cluster is not None:
            return (
                f"{entry.name}: {MOST_SPELLINGS} other names of {cluster} are asked for on this stream already, "
                f"and more are not answered; ask for {cluster}"
            )
        self._near_texts -= 1
        return self._catalog.missing_text(entry.name, self._client, near=self._near_texts >= 0)

    def any_unheard(self) -> bool:
        """Whether there is a name that nothing answers to, nor ever did as far as is known here."""
        return any(
            not self.exists(entry) and not self._catalog.was_deleted(entry.name, self._client)
            for entry in self.entries.values()
        )

    def exists(self, entry: Entry) -> bool:
        """Whether a cluster stands behind a name."""
        return entry.cluster is not None and entry.cluster in self._catalog

    def was_sent(self, entry: Entry, target: Resource) -> None:
        """Note what the client is being sent."""
        entry.sent = target.version
        entry.due = False
        if self.exists(entry):
            entry.real = True
            entry.told = False

    def await_answer(
        self,
        nonce: str,
        version: str,
        sent: Sequence[tuple[Entry, Resource]],
        removed: Iterable[str],
    ) -> None:
        """Remember a response until it is ACKed or NACKed."""
        self.nonce = nonce
        noted: tuple[tuple[Entry, str, Resource | None], ...]
        full_set = self.full_set
        if len(sent) == 1:  # as in most, where a loop costs as much again
            [(entry, target)] = sent
            noted = ((entry, target.version, target if full_set else None),)
        else:
            noted = tuple([(e, r.version, r if full_set else None) for e, r in sent])
        self.outstanding[nonce] = Sent(version, noted, tuple(removed))
        if not len(self.outstanding) % _COUNTED:
            self._forget_unanswered()

    def _forget_unanswered(self) -> None:
        """Of a client that answers little or not at all, as some leave out answers: the latest responses only."""
        room = _MAX_OUTSTANDING + 2 * len(self.entries)
        kept = 0
        for sent in reversed(self.outstanding.values()):
            room -= 1 + len(sent.resources) + len(sent.removed)
            if room < 0 and kept:
                break
            kept += 1
        for nonce in list(islice(self.outstanding, len(self.outstanding) - kept)):
            del self.outstanding[nonce]

    # ---- what the client answers ----

    def accept(self, nonce: str, now: float) -> tuple[Sent, tuple[str, ...]] | None:
        """An ACK at ``now``: all of the response is in use. None if nothing waits for this nonce.

        Returns:
            the response, and the clusters of which the client so replaced what it had before by
            the latest that it was sent.
        """
        answered = self.outstanding.pop(nonce, None)
        replaced: list[str] = []
        if answered is not None:
            self.inherits = False
            for entry, version, resource in answered.resources:
                if entry.acked not in ("", version) and version == entry.sent:
                    replaced.append(entry.cluster or "")
                entry.accept(version, now)
                entry.error = ""
                if resource is not None:
                    entry.good = resource
        return None if answered is None else (answered, tuple(replaced))

    def refuse(self, nonce: str, text: str, now: float) -> tuple[str, list[Entry]] | None:
        """A NACK: quarantine the versions that it blames.

        The text names the resources in all clients that are known; without a name all that was new
        in the response is blamed. Envoy has then not applied the others either: they go again,
        without those that it blamed. Each NACK so shortens what is sent, and there is no loop.
        """
        answered = self.outstanding.pop(nonce, None)
        if answered is None:
            return None
        version, sent, removed = answered
        blamed = [one for one in sent if _names(text, one[0].name)] or list(sent)
        # Who asks again gets an answer, even one that was refused: also if the refusal was on its way then.
        asked = {entry for entry, _, _ in blamed if entry.asked_since(nonce)}
        for entry, refused, _ in blamed:
            if entry in asked:
                continue
            entry.refuse(refused, text, now)
            if entry.good is not None and entry.good.version == refused:
                entry.good = None  # it was accepted once, and no longer is
        innocent = [one for one in sent if one[1] not in one[0].refused and one[0] not in asked]
        for entry, good, resource in innocent:
            if self._client.kind not in _REJECT_WHOLE:
                entry.accept(good, now)
                if resource is not None:
                    entry.good = resource
            elif self.entries.get(entry.name) is entry and entry.sent == good:
                entry.due = entry.alone = True
                self._mark(entry.name)
        if removed and self._client.kind in _REJECT_WHOLE:
            self._tell_again(removed)
        return version, [entry for entry, _, _ in blamed]

    def _tell_again(self, removed: Iterable[str]) -> None:
        """The client refused the response that told it of the end of these."""
        self.answer_due = self.answer_due or self.full_set
        for name in removed:
            entry = self.entries.get(name)
            if entry is None:
                self.farewells[name] = None
            elif not entry.sent:
                entry.due = True
                self._mark(name)

    def statuses(self) -> Iterator[ResourceStatus]:
        """Every name there is now, and what the client has of it when it is asked for."""
        return map(self._status, list(self.entries.values()))

    def statuses_of(self, cluster: str) -> Iterator[ResourceStatus]:
        """As ``statuses``, of the names that mean this cluster."""
        return map(self._status, [self.entries[name] for name in self._names_of(cluster)])

    def _status(self, entry: Entry) -> ResourceStatus:
        if not self.exists(entry):
            state = "absent"
        elif entry.error:
            state = "nacked"
        elif not entry.sent:
            state = "waiting"
        else:
            state = "acked" if entry.acked == entry.sent else "sent"
        return ResourceStatus(
            self.type_url,
            entry.name,
            entry.cluster or "",
            entry.sent if entry.real else "",
            entry.acked if entry.real else "",
            state,
            entry.error,
            entry.since if state in ("acked", "nacked") else None,
        )

    # ---- inside ----

    def _mark(self, name: str) -> None:
        self.dirty[name] = self.raw[name] = None

    def _admit(self, cluster: str) -> None:
        if cluster in self._catalog:
            for name in self._wildcard_of(cluster):
                self._admit_name(name)

    def _is_offered(self, name: str, cluster: str | None) -> bool:
        return cluster is not None and (cluster == name or self._catalog.names.is_alias(name))

    def _wildcard_of(self, cluster: str | None) -> tuple[str, ...]:
        return self._catalog.wildcard_of(self.type_url, cluster, self._client)

    def _admit_name(self, name: str) -> None:
        if name not in self.entries:
            version = self._initial.get(name)
            entry = self._insert(name)
            if version is not None:
                entry.resume(version)
        self._mark(name)

    def _insert(self, name: str) -> Entry:
        cluster = self._meant_by(name)
        if cluster == name:
            name = cluster  # one text for all streams, not each its own copy
        entry = self.entries[name] = Entry(name)
        self.farewells.pop(name, None)
        self._initial.pop(name, None)  # what is known is not absent, however late it came
        self._link(entry, cluster)
        return entry

    def _meant_by(self, name: str) -> str | None:
        """The cluster behind a name; None too if this stream has so many names of it that it must be making them up.

        Each of them would be sent all that changes of the cluster.
        """
        cluster = self._catalog.concerns(self.type_url, name, self._client)
        others = () if cluster is None else self._aliases.get(cluster, ())
        if len(others) < MOST_SPELLINGS or name in others or self._is_offered(name, cluster):
            return cluster
        spellings = sum(1 for other in others if not self._catalog.names.is_alias(other))
        return cluster if spellings < MOST_SPELLINGS else None

    def _names_of(self, cluster: str) -> tuple[str, ...]:
        """The names that mean a cluster."""
        entry = self.entries.get(cluster)
        aliases = self._aliases.get(cluster, ())
        return (cluster, *aliases) if entry is not None and entry.cluster == cluster else aliases

    def _link(self, entry: Entry, cluster: str | None) -> None:
        entry.cluster = cluster
        if cluster is not None and cluster != entry.name:
            self._aliases[cluster] = (*self._aliases.get(cluster, ()), entry.name)
        if cluster != entry.name or self._client.audience is not None:
            self._soft[entry.name] = None

    def _unlink(self, entry: Entry) -> None:
        cluster = entry.cluster
        if cluster is None or cluster == entry.name:
            return
        rest = tuple(name for name in self._aliases[cluster] if name != entry.name)
        if rest:
            self._aliases[cluster] = rest
        else:
            del self._aliases[cluster]


def _names(text: str, name: str) -> bool:
    """Whether a text mentions a name as a whole, not as a part of another one."""
    return name in text and (
        re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|[.:]\w)", text) is not None
    )
