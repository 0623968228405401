"""Scenarios that come with trimtab, by name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from trimtab.errors import ConfigError
from trimtab.sim.scenario import Scenario, load_scenario

_HERE = Path(__file__).parent


def names() -> list[str]:
    """All of them, sorted."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def find(name: str) -> tuple[str, Scenario]:
    """A scenario by its name here, or from a file: its name, and the scenario.

    Raises:
        ConfigError: there is none, or the file is wrong.
    """
    if name in names():
        return name, load_scenario(_HERE / f"{name}.yaml")
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"} and not path.exists():
        near = get_close_matches(name, names(), n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"scenario {name!r}: is neither a file nor one of {', '.join(names())}{meant}"
        )
    return path.stem, load_scenario(path)
