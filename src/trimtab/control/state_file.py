"""What was known last, in a file: for a start while a cluster's API server can't be read.

One line of header (format, checksum, when), then JSON. It is replaced in one step, so a reader finds the
old state or the new one; whatever else is there is refused with its reason, and the start goes on without.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from trimtab.errors import ConfigError, TrimtabError
from trimtab.model import Endpoint, PolicyConfig, ServicePort, Snapshot

_FORMAT = "trimtab-state-1"

# A write that its task gave up goes on in its thread; the next one waits for it.
_WRITING = threading.Lock()

Saved = Mapping[str, Mapping[str, Snapshot]]
"""Snapshots by source and cluster."""


class StateError(TrimtabError):
    """The file holds nothing that can be used; the text says why."""


class _Cluster(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    endpoints: tuple[Endpoint, ...]
    policy: PolicyConfig | None = None
    service: ServicePort | None = None


_DECODER = msgspec.json.Decoder(dict[str, list[_Cluster]])


def write_state(path: Path, sources: Saved, now: float) -> None:
    """Replace the file.

    Args:
        path: the file; its directory exists.
        sources: what is known.
        now: Unix seconds.

    Raises:
        OSError: it can't be written; the old one stays.
    """
    body = msgspec.json.encode(
        {
            name: [
                _Cluster(s.cluster, s.endpoints, s.policy, s.service) for s in snapshots.values()
            ]
            for name, snapshots in sources.items()
        }
    )
    head = f"{_FORMAT} {_checksum(body)} {now:.3f}\n".encode()
    draft = path.with_name(f".{path.name}.draft")
    with _WRITING:
        _replace(path, draft, head + body)


def _replace(path: Path, draft: Path, content: bytes) -> None:
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read_state(path: Path, now: float, max_age_s: float) -> Saved | None:
    """What the file holds; None if there is no file.

    Args:
        path: the file.
        now: Unix seconds.
        max_age_s: what is older is not believed.

    Raises:
        StateError: it can't be read, is damaged, too old, or of another format.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"state file {path}: {error.strerror}") from error
    head, _, body = content.partition(b"\n")
    words = head.decode("ascii", "replace").split()
    if len(words) != 3 or words[0] != _FORMAT:  # noqa: PLR2004 - format, checksum, time
        raise StateError(f"state file {path}: it does not begin with {_FORMAT}; delete it")
    if words[1] != _checksum(body):
        raise StateError(f"state file {path}: its checksum is wrong: it is damaged; delete it")
    try:
        age = now - float(words[2])
    except ValueError:
        raise StateError(f"state file {path}: {words[2]!r} is no time; delete it") from None
    if not age <= max_age_s:
        raise StateError(
            f"state file {path}: it is {age:.0f} s old, and more than {max_age_s:.0f} s is not believed"
        )
    try:
        return {
            name: {c.name: Snapshot(c.name, c.endpoints, c.policy, c.service) for c in clusters}
            for name, clusters in _DECODER.decode(body).items()
        }
    except (msgspec.DecodeError, ConfigError) as error:
        raise StateError(f"state file {path}: {error}; delete it") from error


def _checksum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
