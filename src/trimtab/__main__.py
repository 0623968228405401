"""``trimtab`` and ``python -m trimtab``."""

from __future__ import annotations

import sys

_EXTRA = frozenset({"aiohttp", "click", "rich", "watchfiles", "yaml"})


def main() -> None:
    """Run the command line, or say which extra brings it."""
    try:
        from trimtab.cli import run  # noqa: PLC0415 - it may not be installed

        run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.exit(
            f"trimtab: the command line needs {missing}, which the plain install leaves out: "
            "pip install 'trimtab[control-plane]'"
        )


if __name__ == "__main__":
    main()
