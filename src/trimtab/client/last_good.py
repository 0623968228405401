"""The last good list of a service's endpoints in a file, for a start without a control plane.

One file per service in a directory: a line with the SHA-256 of the rest, then JSON. It is written beside
and moved into place, so that it is whole or not there, and several processes may share a directory. What
can't be read, is damaged or too old counts as absent, and the log says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trimtab.errors import ConfigError
from trimtab.model import Endpoint, PolicyConfig, Snapshot, is_number

_FORMAT = 1
_WEEK_S = 7 * 86_400.0

_log = logging.getLogger("trimtab.client")


@dataclass(frozen=True, slots=True)
class LastGood:
    """Where last good lists are kept.

    Attributes:
        directory: made when it isn't there; only this user's processes should write to it.
        max_age_s: older files count as absent [s]; a file's age is that of the last change, or of the last
            start of a process that heard of its service.
    """

    directory: str
    max_age_s: float = _WEEK_S

    def __post_init__(self) -> None:
        if (
            not isinstance(self.directory, str | os.PathLike)
            or not self.directory
            or not is_number(self.max_age_s)
            or not self.max_age_s > 0.0
        ):
            raise ConfigError(
                f"fallback: LastGood({self.directory!r}, max_age_s={self.max_age_s!r}): give a directory, "
                "and an age above 0 in seconds"
            )
        object.__setattr__(self, "max_age_s", float(self.max_age_s))


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    cluster: str
    saved_at: float
    endpoints: tuple[Endpoint, ...]
    policy: PolicyConfig | None


class LastGoodFile:
    """One service's file.

    Args:
        where: the directory, and how old a list may be.
        name: as the channel asks for it; it isn't read from the file's name.
        wall: Unix seconds.
    """

    def __init__(self, where: LastGood, name: str, wall: Callable[[], float]) -> None:
        self._where = where
        self._name = name
        self._wall = wall
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        self.path = Path(where.directory) / f"{digest}.trimtab"

    def save(self, snapshot: Snapshot) -> None:
        """Keep a list; a failure is logged and changes nothing."""
        content = _Content(_FORMAT, self._name, self._wall(), snapshot.endpoints, snapshot.policy)
        body = msgspec.json.encode(content)
        beside = self.path.with_suffix(f".{os.getpid()}.{id(self):x}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            _log.warning("%s: the last good list can't be kept: %s", self._name, error)

    def load(self) -> tuple[Snapshot, float] | None:
        """The list and its age [s]; None if there is none that can be used."""
        try:
            return self._read(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ConfigError) as error:
            _log.warning("%s: the last good list %s is not used: %s", self._name, self.path, error)
            return None

    def _read(self, raw: bytes) -> tuple[Snapshot, float]:
        checksum, _, body = raw.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            raise ConfigError("it is damaged (its checksum differs)")
        content = msgspec.json.decode(body, type=_Content)
        if content.format != _FORMAT or content.cluster != self._name:
            raise ConfigError(f"it is of format {content.format}, of {content.cluster!r}")
        age = max(0.0, self._wall() - content.saved_at)
        if age > self._where.max_age_s:
            raise ConfigError(f"it is {age:.0f} s old, more than {self._where.max_age_s:.0f} s")
        return Snapshot(self._name, content.endpoints, content.policy), age
