"""What the end of one attempt means to a policy. One table, so that all transports agree.

Retries and budgets come on top of this later; what is here decides nothing but the outcome.
"""

from __future__ import annotations

from trimtab.policies import Outcome

# gRPC status codes by number (grpc/doc/statuscodes.md); numbers, since the core imports no gRPC.
_OK = 0
_CANCELLED = 1
_DEADLINE_EXCEEDED = 4
_FAILURES = frozenset({2, 8, 13, 14, 15})
# UNKNOWN, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS: the classes that linkerd's load
# biaser counts against an endpoint. The rest (NOT_FOUND, PERMISSION_DENIED, ...) is an answer.


def outcome_of_grpc(code: int) -> Outcome:
    """Classify a gRPC status code (0 to 16; anything else counts as a failure)."""
    if code == _OK:
        return Outcome.SUCCESS
    if code == _CANCELLED:
        return Outcome.CANCELLED
    if code == _DEADLINE_EXCEEDED:
        return Outcome.TIMEOUT
    if code in _FAILURES or not 0 <= code <= 16:  # noqa: PLR2004
        return Outcome.FAILURE
    return Outcome.ANSWERED
