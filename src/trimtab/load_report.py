"""What a server says of its own load, in the units of ORCA's ``OrcaLoadReport``.

Source: xds/data/orca/v3/orca_load_report.proto. The server side writes it, the client reads it;
both only pass it on here. Policies that use it come on top.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadReport:
    """One load report.

    Attributes:
        cpu_utilization: share of the CPU in use, 0 to 1; may exceed 1 where a soft limit is exceeded.
        application_utilization: the application's own measure of how full it is, 0 to 1 and above.
        rps: requests/s that the server sees.
        eps: errors/s that the server sees.
        in_flight: requests in the server now, this one left out; None if it does not say.
        latency: what a request takes there now, at about this many in flight [s]; None if it does
            not say.
        retry_after: how long it wants to be left alone [s] (``Retry-After``, gRPC's pushback);
            None if it does not say.
    """

    cpu_utilization: float = 0.0
    application_utilization: float = 0.0
    rps: float = 0.0
    eps: float = 0.0
    in_flight: int | None = None
    latency: float | None = None
    retry_after: float | None = None
