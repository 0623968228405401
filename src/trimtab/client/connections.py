"""How many connections an endpoint has, and how long each lives: the caller's word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from trimtab.errors import ConfigError
from trimtab.model import is_number, whole

AGE_VARIABLE = "TRIMTAB_MAX_CONNECTION_AGE"
_MOST = 64


@dataclass(frozen=True, slots=True)
class Connections:
    """How many connections an endpoint has, and how long each lives.

    Attributes:
        max_age_s: no connection gets requests for longer than this [s]. Each is replaced at 80 to 100 %
            of it, drawn anew every time, without failing a request; None: they live as long as they can.
        streams: how many requests in flight a connection takes before a further one is opened; a little
            less than what servers allow (``max_concurrent_streams``). None: one connection takes all.
        most: how many connections to one endpoint there are at most; further requests wait on them.

    Raises:
        ConfigError: a number is out of range.
    """

    max_age_s: float | None = None
    streams: int | None = None
    most: int = 4

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.max_age_s is not None and not (
            is_number(self.max_age_s) and 1.0 <= self.max_age_s < math.inf
        ):
            raise ConfigError(
                f"Connections: max_age_s={self.max_age_s!r} is not a number of seconds of 1 or more"
            )
        streams, most = whole(self.streams), whole(self.most)
        if self.streams is not None and (streams is None or streams < 1):
            raise ConfigError(
                f"Connections: streams={self.streams!r} is not a whole number of 1 or more"
            )
        if most is None or not 1 <= most <= _MOST:
            raise ConfigError(
                f"Connections: most={self.most!r} is not a whole number from 1 to {_MOST}"
            )
        if self.max_age_s is not None:
            object.__setattr__(self, "max_age_s", float(self.max_age_s))
        object.__setattr__(self, "streams", streams)
        object.__setattr__(self, "most", most)

    @classmethod
    def of(cls, given: Self | None, environ: Mapping[str, str], where: str) -> Self:
        """The keyword's, else what ``TRIMTAB_MAX_CONNECTION_AGE`` [s] says.

        Raises:
            ConfigError: it is of another type, or the variable is no number of seconds.
        """
        if given is not None:
            if not isinstance(given, cls):
                raise ConfigError(
                    f"{where}: connections={given!r} is no trimtab.Connections, such as "
                    "trimtab.Connections(max_age_s=3600)"
                )
            return given
        said = environ.get(AGE_VARIABLE, "")
        if not said:
            return cls()
        try:
            return cls(max_age_s=float(said))
        except (ValueError, ConfigError):
            raise ConfigError(
                f"{AGE_VARIABLE}={said!r} is not a number of seconds of 1 or more"
            ) from None


ONE = Connections()
