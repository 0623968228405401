"""Frozen dataclasses out of parsed YAML: every key known, typed and in range, or an error that helps.

A field says with ``key`` what it means and what it may be; the reference page is compared with
that. What concerns several fields a class checks in ``faults``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Protocol, TypeVar, get_args, get_origin, get_type_hints, runtime_checkable

from trimtab.errors import ConfigError

_T = TypeVar("_T")
_SHOWN = 60  # letters of a bad value


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field may be.

    Attributes:
        doc: what it means, with the unit.
        low: the least number, ``above``: excluded.
        high: the greatest number.
        choices: the allowed texts.
        read: makes the value itself; None: by the field's type.
    """

    doc: str
    low: float = -math.inf
    above: bool = False
    high: float = math.inf
    choices: tuple[str, ...] = ()
    read: Callable[[Any, Place], Any] | None = None


def key(doc: str, default: Any = MISSING, **rule: Any) -> Any:
    """A dataclass field with its rule; a mapping as default is empty."""
    metadata = {"rule": Rule(doc, **rule)}
    if default is MISSING:
        return field(metadata=metadata)
    if default is dict:
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@runtime_checkable
class Checked(Protocol):
    """A class whose fields depend on each other."""

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """What is wrong: field, value, fix."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: in which file, at which path."""

    file: str
    path: str = ""

    def at(self, name: str | int) -> Place:
        """A key or an index below."""
        if isinstance(name, int):
            return Place(self.file, f"{self.path}[{name}]")
        return Place(self.file, f"{self.path}.{name}" if self.path else name)

    def error(self, value: object, fix: str) -> ConfigError:
        """What is wrong here."""
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        return ConfigError(f"{self.file}: {self.path or 'the file'}: {shown}: {fix}")


def rule_of(known: Field[Any]) -> Rule:
    """What ``key`` was given."""
    rule = known.metadata["rule"]
    assert isinstance(rule, Rule)  # noqa: S101 - every field of these classes is made by key
    return rule


def read(cls: type[_T], content: Any, place: Place) -> _T:
    """One object of that dataclass.

    Raises:
        ConfigError: naming file, path, bad value and fix.
    """
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]  # a dataclass
    if not isinstance(content, Mapping):
        raise place.error(content, f"is no mapping; known keys: {', '.join(known)}")
    for name in content:
        if name not in known:
            raise place.at(str(name)).error(
                content[name], f"unknown key; known here: {', '.join(known)}"
            )
    hints = get_type_hints(cls)
    values = {}
    for name, found in known.items():
        if name in content:
            values[name] = _value(hints[name], content[name], place.at(name), rule_of(found))
        elif found.default is MISSING and found.default_factory is MISSING:
            raise ConfigError(
                f"{place.file}: {place.at(name).path}: is missing: {rule_of(found).doc}"
            )
    made = cls(**values)
    if isinstance(made, Checked):
        for name, value, fix in made.faults():
            raise place.at(name).error(value, fix)
    return made


def _value(hint: Any, raw: Any, place: Place, rule: Rule) -> Any:
    if rule.read is not None:
        return rule.read(raw, place)
    origin = get_origin(hint)
    if origin is UnionType:
        if raw is None:
            return None
        hint = next(part for part in get_args(hint) if part is not NoneType)
        origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(raw, list) or not raw:
            raise place.error(raw, "is no list with at least one entry, such as [1, 2]")
        inner = get_args(hint)[0]
        return tuple(_value(inner, one, place.at(i), rule) for i, one in enumerate(raw))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(get_args(hint)[1], raw, place, rule)
    scalar = _SCALARS.get(hint)
    return scalar(raw, place, rule) if scalar else read(hint, raw, place)


def _mapping(hint: Any, raw: Any, place: Place, rule: Rule) -> dict[str, Any]:
    if not isinstance(raw, Mapping) or not raw:
        raise place.error(raw, "is no mapping of names to numbers, such as {a: 1, b: 2}")
    found = {}
    for name, value in raw.items():
        if not isinstance(name, str) or not name:
            raise place.error(name, "is no name; quote it if it looks like a number")
        found[name] = _value(hint, value, place.at(name), rule)
    return found


def _text(raw: Any, place: Place, rule: Rule) -> str:
    if not isinstance(raw, str) or not raw or (rule.choices and raw not in rule.choices):
        raise place.error(
            raw, f"is none of {', '.join(rule.choices)}" if rule.choices else "is no text"
        )
    return raw


def _flag(raw: Any, place: Place, rule: Rule) -> bool:
    if not isinstance(raw, bool):
        raise place.error(raw, f"is neither true nor false: {rule.doc}")
    return raw


def _whole(raw: Any, place: Place, rule: Rule) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or not _in_range(raw, rule):
        raise place.error(raw, f"is not a whole number{_limits(rule)}")
    return raw


def _number(raw: Any, place: Place, rule: Rule) -> float:
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not _in_range(raw, rule):
        raise place.error(raw, f"is not a number{_limits(rule)}")
    return float(raw)


def _in_range(value: float, rule: Rule) -> bool:
    within = math.isfinite(value) and rule.low <= value <= rule.high
    return within and not (rule.above and value == rule.low)


def _limits(rule: Rule) -> str:
    low = "" if rule.low == -math.inf else f" {'above' if rule.above else 'from'} {rule.low:g}"
    return low + ("" if rule.high == math.inf else f" up to {rule.high:g}")


_SCALARS: dict[Any, Callable[[Any, Place, Rule], Any]] = {
    int: _whole,
    float: _number,
    bool: _flag,
    str: _text,
}
