"""What one request cost, by name, as its handler says it."""

from __future__ import annotations

from contextvars import ContextVar

from trimtab.server.orca import check_name, check_value

_costs: ContextVar[dict[str, float] | None] = ContextVar("trimtab_costs", default=None)


def record_cost(name: str, amount: float) -> None:
    """Add to what the request that is being handled costs: tokens, rows, bytes read.

    It goes out with the response, as ``request_cost`` of the binary report, if the server's
    ``LoadReports`` was made with ``costs=True``; else nothing happens.

    Raises:
        ValueError: a name that can't be written, or an amount that is no finite number from 0 on.
    """
    costs = _costs.get()
    if costs is not None:
        costs[name] = costs.get(check_name(name), 0.0) + check_value(name, amount)


def collect_costs() -> dict[str, float]:
    """Begin a request: what the current context records from now on goes into the result."""
    costs: dict[str, float] = {}
    _costs.set(costs)
    return costs
