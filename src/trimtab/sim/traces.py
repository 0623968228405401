"""A recorded trace: when requests came, how long they took, and from which pod.

CSV with a header, or JSON objects a line. The columns: ``time`` (seconds, or ISO 8601; optional for
service times alone), ``latency`` (seconds), ``pod`` (optional).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from trimtab.errors import ConfigError

_TIMES = ("time", "timestamp", "ts")
_LATENCIES = ("latency", "duration", "seconds")
_PODS = ("pod", "instance", "upstream")


@dataclass(frozen=True, slots=True)
class Trace:
    """What was recorded.

    Attributes:
        latencies: [s], in order of time.
        gaps: from one request to the next [s]; empty without times.
        pods: how many different ones answered; 0: unknown.
    """

    latencies: tuple[float, ...]
    gaps: tuple[float, ...]
    pods: int

    @property
    def mean_s(self) -> float:
        """The mean latency [s]."""
        return math.fsum(self.latencies) / len(self.latencies)

    @property
    def rate(self) -> float:
        """Requests/s; 0: unknown."""
        total = math.fsum(self.gaps)
        return len(self.gaps) / total if total else 0.0


@lru_cache(maxsize=4)  # every run asks for it again
def read_trace(path: Path) -> Trace:
    """Read a file.

    Raises:
        ConfigError: it can't be read, or a line is not as described.
    """
    rows: list[tuple[float | None, float]] = []
    pods: set[str] = set()
    for number, row in _rows(path):
        where = f"{path}:{number}"
        latency = _number(_first(row, _LATENCIES), where, "latency")
        when = _first(row, _TIMES)
        rows.append((None if when is None else _time(when, where), latency))
        pod = _first(row, _PODS)
        if pod is not None:
            pods.add(str(pod))
    if not rows:
        raise ConfigError(f"{path}: holds no request; give a header and lines with latency [s]")
    if math.fsum(latency for _, latency in rows) <= 0.0:
        raise ConfigError(f"{path}: all latencies are 0; they are seconds")
    times = [when for when, _ in rows if when is not None]
    if len(times) < len(rows):
        return Trace(tuple(latency for _, latency in rows), (), len(pods))
    order = sorted(range(len(rows)), key=times.__getitem__)
    times.sort()
    gaps = tuple(b - a for a, b in pairwise(times))
    return Trace(tuple(rows[i][1] for i in order), gaps, len(pods))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            first = file.read(1)
            file.seek(0)
            if first == "{":
                yield from _objects(path, file)
                return
            reader = csv.DictReader(file)
            heads = [(head or "").strip().lower() for head in reader.fieldnames or ()]
            if heads and not set(heads) & set(_LATENCIES):
                raise ConfigError(
                    f"{path}:1: no column is named latency; there are: {', '.join(heads)}; the first "
                    "line is a header such as time,latency,pod"
                )
            for row in reader:
                yield reader.line_num, {(k or "").strip().lower(): v for k, v in row.items()}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is neither CSV nor JSON lines: {error}") from None


def _objects(path: Path, file: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: is no JSON object: {error}") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number}: is no JSON object: {line.strip()[:60]}")
        yield number, row


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return value
    return None


def _number(given: Any, where: str, name: str) -> float:
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise ConfigError(f"{where}: {name}: {given!r} is no number of seconds from 0")
    return value


def _time(given: Any, where: str) -> float:
    if isinstance(given, str):
        try:
            return datetime.fromisoformat(given).timestamp()
        except ValueError:
            return _number(given, where, "time")
    return _number(given, where, "time")
