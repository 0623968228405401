"""Reading a policy's parameters: known names, numbers in range, and texts that say what to write.

Parameters are frozen scalars (``model.PolicyConfig``): they come from code, from an annotation or
over xDS, so a number may come as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from trimtab.errors import ConfigError

Params = Mapping[str, str | float | bool]


class Reader:
    """Takes one parameter after the other; ``close`` refuses what is left.

    Args:
        policy: the policy's name, for messages.
        params: what was given.
    """

    def __init__(self, policy: str, params: Params) -> None:
        self._policy = policy
        self._left = dict(params)
        self._known: list[str] = []

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number from ``low`` to ``high``.

        Raises:
            ConfigError: it is none, or out of range.
        """
        given = self._take(name, default)
        try:
            value = math.nan if isinstance(given, bool) else float(given)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ConfigError(
                f"policy {self._policy}: parameter {name}={given!r} is not a number "
                f"from {low:g} to {high:g}"
            )
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``.

        Raises:
            ConfigError: it is none, or out of range.
        """
        value = self.number(name, default, low, high)
        if value != int(value):
            raise ConfigError(
                f"policy {self._policy}: parameter {name}={value!r} is not a whole number "
                f"from {low} to {high}"
            )
        return int(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false; also the texts ``true`` and ``false``, and 1 and 0.

        Raises:
            ConfigError: it is something else.
        """
        given = self._take(name, default)
        if isinstance(given, bool):
            return given
        if given in {"true", "1", 1.0}:
            return True
        if given in {"false", "0", 0.0}:
            return False
        raise ConfigError(
            f"policy {self._policy}: parameter {name}={given!r} is neither true nor false"
        )

    def text(self, name: str, default: str, choices: tuple[str, ...] = ()) -> str:
        """A text; one of ``choices`` if there are any.

        Raises:
            ConfigError: it is no text, or none of the choices.
        """
        given = self._take(name, default)
        if not isinstance(given, str) or (choices and given not in choices):
            wanted = f"one of {', '.join(choices)}" if choices else "a text"
            raise ConfigError(f"policy {self._policy}: parameter {name}={given!r} is not {wanted}")
        return given

    def close(self) -> None:
        """Refuse what nobody took.

        Raises:
            ConfigError: an unknown parameter was given.
        """
        for name, value in self._left.items():
            known = f"known are {', '.join(self._known)}" if self._known else "it takes none"
            raise ConfigError(
                f"policy {self._policy}: parameter {name}={value!r} is unknown; {known}"
            )

    def _take(self, name: str, default: str | float | bool) -> str | float | bool:
        self._known.append(name)
        return self._left.pop(name, default)
