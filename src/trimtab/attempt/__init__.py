"""Attempts: what the end of one means, and whether a request may have another. Pure.

No transport is known here: gRPC and HTTP bring their status numbers, a clock and randomness.
"""

from trimtab.attempt.budget import Budget, Throttle
from trimtab.attempt.course import Course, Ended, Verdict
from trimtab.attempt.declared import EVERYTHING, plans_of, retry_of
from trimtab.attempt.latency import LatencyQuantile
from trimtab.attempt.outcome import outcome_of_grpc, pushback_of, report_of
from trimtab.attempt.recording import (
    BUFFER_BYTES,
    KeepingSerializer,
    Kept,
    Recording,
    Step,
)
from trimtab.attempt.retry import Retry
from trimtab.attempt.service_config import NO_PLANS, MethodPlans, Plan, parse
from trimtab.attempt.unsent import never_left

__all__ = [
    "BUFFER_BYTES",
    "EVERYTHING",
    "NO_PLANS",
    "Budget",
    "Course",
    "Ended",
    "KeepingSerializer",
    "Kept",
    "LatencyQuantile",
    "MethodPlans",
    "Plan",
    "Recording",
    "Retry",
    "Step",
    "Throttle",
    "Verdict",
    "never_left",
    "outcome_of_grpc",
    "parse",
    "plans_of",
    "pushback_of",
    "report_of",
    "retry_of",
]
