"""What a Service's owner declares of its methods (``model.Repeatable``), as plans. Pure."""

from __future__ import annotations

from trimtab.attempt.retry import Retry
from trimtab.attempt.service_config import NO_PLANS, MethodPlans, Plan
from trimtab.model import Repeatable

EVERYTHING = "*"


def retry_of(repeatable: Repeatable) -> Retry:
    """How its methods may be tried again."""
    return Retry(
        repeatable.attempts,
        repeatable.on,
        hedge_after_s=repeatable.hedge_after_s,
        hedge_quantile=repeatable.hedge_quantile,
    )


def plans_of(repeatable: Repeatable | None) -> MethodPlans:
    """By gRPC method; an HTTP method that is named is none."""
    if repeatable is None:
        return NO_PLANS
    plan = Plan(retry_of(repeatable))
    return MethodPlans({"" if m == EVERYTHING else m: plan for m in repeatable.methods})
