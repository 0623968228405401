"""What was known last, in a file: for a start while a cluster's API server can't be read.

One line of header (format, checksum, when), then JSON. Each source has a time of its own; that of the header is
the oldest of them, and counts for all where there are none. It is replaced in one step, so a reader finds the
old state or the new one; whatever else is there is refused with its reason, and the start goes on without.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from trimtab.control.verdicts import SavedVerdict
from trimtab.errors import ConfigError, TrimtabError
from trimtab.model import Endpoint, PolicyConfig, ServicePort, Snapshot

_FORMAT = "trimtab-state-2"

# A write that its task gave up goes on in its thread; the next one waits for it.
_WRITING = threading.Lock()

Saved = Mapping[str, Mapping[str, Snapshot]]
"""Snapshots by source and cluster."""


@dataclass(frozen=True, slots=True)
class State:
    """What is kept.

    Attributes:
        sources: what they said.
        audience: what the tokens were accepted for; "" if clients bring none.
        verdicts: the tokens that were accepted, each by its hash.
        heard: when each source was known to be so [Unix seconds].
        refused: what of a file is not believed, in words.
    """

    sources: Saved
    audience: str = ""
    verdicts: tuple[SavedVerdict, ...] = ()
    heard: Mapping[str, float] = field(default_factory=dict, compare=False)
    refused: tuple[str, ...] = field(default=(), compare=False)


class StateError(TrimtabError):
    """The file holds nothing that can be used; the text says why."""


class _Cluster(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    endpoints: tuple[Endpoint, ...]
    policy: PolicyConfig | None = None
    service: ServicePort | None = None


class _Body(msgspec.Struct, frozen=True):
    sources: dict[str, list[_Cluster]]
    audience: str
    verdicts: tuple[SavedVerdict, ...]
    heard: dict[str, float] = {}


_DECODER = msgspec.json.Decoder(_Body)


def write_state(path: Path, state: State, now: float) -> None:
    """Replace the file.

    Args:
        path: the file; its directory exists.
        state: what is known.
        now: Unix seconds, for sources that ``state.heard`` lacks.

    Raises:
        OSError: it can't be written; the old one stays.
    """
    heard = {name: state.heard.get(name, now) for name in state.sources}
    sources = {
        name: [_Cluster(s.cluster, s.endpoints, s.policy, s.service) for s in snapshots.values()]
        for name, snapshots in state.sources.items()
    }
    body = msgspec.json.encode(_Body(sources, state.audience, state.verdicts, heard))
    head = f"{_FORMAT} {_checksum(body)} {min(heard.values(), default=now):.3f}\n".encode()
    draft = path.with_name(f".{path.name}.draft")
    with _WRITING:
        _replace(path, draft, head + body)


def _replace(path: Path, draft: Path, content: bytes) -> None:
    try:
        with draft.open("wb") as file:
            # Who is believed to be whom stands in it, too.
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read_state(path: Path, now: float, max_age_s: float) -> State | None:
    """What the file holds, but for sources that are too old; None if there is no file.

    Args:
        path: the file.
        now: Unix seconds.
        max_age_s: what is older is not believed. Nor is what will be written so much later: one of
            the clocks was wrong, and nobody knows how old it is.

    Raises:
        StateError: it can't be read, is damaged, of another format, or all of it is too old or of a far future.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"state file {path}: {error.strerror}") from error
    head, _, body = raw.partition(b"\n")
    words = head.decode("ascii", "replace").split()
    if len(words) != 3 or words[0] != _FORMAT:  # noqa: PLR2004 - format, checksum, time
        raise StateError(f"state file {path}: it does not begin with {_FORMAT}; delete it")
    if words[1] != _checksum(body):
        raise StateError(f"state file {path}: its checksum is wrong: it is damaged; delete it")
    try:
        written = float(words[2])
    except ValueError:
        written = math.nan
    if not math.isfinite(written):
        raise StateError(f"state file {path}: {words[2]!r} is no time; delete it")
    try:
        content = _DECODER.decode(body)
        sources = {
            name: {c.name: Snapshot(c.name, c.endpoints, c.policy, c.service) for c in clusters}
            for name, clusters in content.sources.items()
        }
    except (msgspec.DecodeError, ConfigError) as error:
        raise StateError(f"state file {path}: {error}; delete it") from error
    heard = {name: content.heard.get(name, written) for name in sources}
    doubts = {
        name: f"{doubt}, and more than {max_age_s:.0f} s is not believed"
        for name, when in (heard or {"": written}).items()
        if (doubt := _doubt(now - when, max_age_s))
    }
    if len(doubts) == max(len(heard), 1):
        raise StateError(f"state file {path}: it is {next(iter(doubts.values()))}")
    return State(
        {name: clusters for name, clusters in sources.items() if name not in doubts},
        content.audience,
        content.verdicts,
        {name: when for name, when in heard.items() if name not in doubts},
        tuple(f"what source {name} said is {doubt}" for name, doubt in doubts.items()),
    )


def _doubt(age_s: float, most_s: float) -> str:
    """Why an age is not believed, "" if it is."""
    if abs(age_s) <= most_s:
        return ""
    return f"{-age_s:.0f} s from the future" if age_s < 0 else f"{age_s:.0f} s old"


def _checksum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
