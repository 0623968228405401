"""Letting go of responses and pools that nobody wants any more.

Closing them may raise, as where a connection has broken. That is nobody's answer: it is logged, so that a
request which has one gets it, and one that is about to be sent again is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

_log = logging.getLogger("trimtab.client")


async def let_go_soon(unwanted: Any, discard: Callable[[Any], Awaitable[None]]) -> None:
    """Discard it. Raises the caller's ``CancelledError`` and nothing else."""
    try:
        await discard(unwanted)
    except Exception:  # noqa: BLE001 - see the module
        _log.debug("%r could not be closed", unwanted, exc_info=True)


def let_go(unwanted: Any, discard: Callable[[Any], None]) -> None:
    """Discard it. Raises ``KeyboardInterrupt`` and the like and nothing else."""
    try:
        discard(unwanted)
    except Exception:  # noqa: BLE001 - see the module
        _log.debug("%r could not be closed", unwanted, exc_info=True)
