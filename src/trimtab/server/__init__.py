"""For the servers that users run: load reports, warm-up, drain.

For ``grpc.server``; ``trimtab.server.aio`` and ``trimtab.server.asgi`` have the same for the others.
"""

from trimtab.server.costs import record_cost
from trimtab.server.cpu import CpuUtilization
from trimtab.server.interceptor import LoadReports
from trimtab.server.out_of_band import add_load_report_service
from trimtab.server.server_load import ServerLoad

__all__ = ["CpuUtilization", "LoadReports", "ServerLoad", "add_load_report_service", "record_cost"]
