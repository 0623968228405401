"""What a user declares of a method: that it may run more than once, and how to try again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.errors import ConfigError
from trimtab.grpc_status import GRPC_CODES
from trimtab.model import is_number, whole

_LONGEST_S = 1e9  # what timers of all kinds can wait for
_SECONDS = "seconds from 0 to 1e9"
_OR_NONE = ("attempt_timeout_s", "hedge_after_s", "hedge_quantile")
_OWN = (int, float)
_NUMBERS = ("backoff_s", "most_backoff_s", "multiplier", *_OR_NONE)


@dataclass(frozen=True, slots=True)
class Retry:
    """Declares calls safe to run more than once, and says when to try again.

    With ``hedge_after_s`` or ``hedge_quantile`` further attempts leave while earlier ones run, and
    the first good answer wins; without, after a failure.

    Attributes:
        attempts: the most attempts, the first included; 1: none but the first.
        on: statuses after which another attempt may follow: gRPC names, or numbers (HTTP's too).
        backoff_s: the first pause between attempts [s]; they vary by 20 % (gRFC A6).
        most_backoff_s: the longest [s].
        multiplier: of the pause, per attempt.
        attempt_timeout_s: how long one attempt may take [s]; None: as long as the call.
        hedge_after_s: when the next attempt leaves although no answer came [s].
        hedge_quantile: the same, at this part of the latencies seen lately, such as 0.95.

    Raises:
        ConfigError: a value out of range.
    """

    attempts: int = 3
    on: frozenset[int] | Iterable[str | int] = frozenset({14})
    backoff_s: float = 0.005
    most_backoff_s: float = 1.0
    multiplier: float = 2.0
    attempt_timeout_s: float | None = None
    hedge_after_s: float | None = None
    hedge_quantile: float | None = None

    def __post_init__(self) -> None:
        attempts = whole(self.attempts)
        if attempts is None or not 1 <= attempts <= 5:  # noqa: PLR2004 - gRFC A6
            raise _bad("attempts", self.attempts, "a whole number from 1 to 5")
        object.__setattr__(self, "attempts", attempts)
        object.__setattr__(self, "on", _statuses(self.on))
        self._take_numbers()
        if not 0.0 <= self.most_backoff_s <= _LONGEST_S:
            raise _bad("most_backoff_s", self.most_backoff_s, _SECONDS)
        if not 0.0 <= self.backoff_s <= self.most_backoff_s:
            raise _bad("backoff_s", self.backoff_s, "seconds from 0 to most_backoff_s")
        if not 0.0 < self.multiplier <= 100.0:  # noqa: PLR2004 - beyond sense
            raise _bad("multiplier", self.multiplier, "a number above 0, up to 100")
        if self.attempt_timeout_s is not None and not 0.0 < self.attempt_timeout_s <= _LONGEST_S:
            raise _bad(
                "attempt_timeout_s", self.attempt_timeout_s, "seconds above 0, up to 1e9, or None"
            )
        if self.hedge_after_s is not None and not 0.0 <= self.hedge_after_s <= _LONGEST_S:
            raise _bad("hedge_after_s", self.hedge_after_s, f"{_SECONDS}, or None")
        if self.hedge_quantile is not None:
            if not 0.0 < self.hedge_quantile < 1.0:
                raise _bad("hedge_quantile", self.hedge_quantile, "a number between 0 and 1")
            if self.hedge_after_s is not None:
                raise _bad("hedge_quantile", self.hedge_quantile, "None beside hedge_after_s")

    def _take_numbers(self) -> None:
        for field in _NUMBERS:
            value = getattr(self, field)
            if not (is_number(value) or (value is None and field in _OR_NONE)):
                wanted = "a number, or None" if field in _OR_NONE else "a number"
                raise _bad(field, value, wanted)
            if value is not None and type(value) not in _OWN:
                object.__setattr__(self, field, float(value))

    @property
    def hedges(self) -> bool:
        """Whether attempts overlap."""
        return self.hedge_after_s is not None or self.hedge_quantile is not None


def _statuses(given: Iterable[str | int]) -> frozenset[int]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise _bad("on", given, "a list of statuses, such as ['UNAVAILABLE']")
    return frozenset(map(_number, given))


def _number(code: str | int) -> int:
    found = GRPC_CODES.get(code) if isinstance(code, str) else whole(code)
    if not found:
        raise _bad("on", code, "a gRPC status such as UNAVAILABLE, not OK, or a status number")
    return found


def _bad(field: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"Retry: {field}={value!r} is not {wanted}")
