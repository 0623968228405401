"""For the servers that users run: load reports, warm-up, drain.

For ``grpc.server``; ``trimtab.server.aio`` and ``trimtab.server.asgi`` have ``LoadReports`` for the
others.
"""

from trimtab.server.costs import record_cost
from trimtab.server.cpu import CpuUtilization
from trimtab.server.drain import (
    drain,
    drain_blocking,
    serve_until_signal,
    serve_until_signal_blocking,
)
from trimtab.server.interceptor import LoadReports
from trimtab.server.out_of_band import add_load_report_service
from trimtab.server.readiness import Readiness
from trimtab.server.server_load import ServerLoad
from trimtab.server.warm_up import Warmup

__all__ = [
    "CpuUtilization",
    "LoadReports",
    "Readiness",
    "ServerLoad",
    "Warmup",
    "add_load_report_service",
    "drain",
    "drain_blocking",
    "record_cost",
    "serve_until_signal",
    "serve_until_signal_blocking",
]
