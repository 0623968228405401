"""What a strategy raises when it is told how an attempt ended: counted each time, logged once per channel."""

from __future__ import annotations

import logging
import threading

from trimtab.client.metrics import COUNTERS

_log = logging.getLogger("trimtab.client")
_counting = threading.Lock()


class PolicyErrors:
    """Give it to a balancer as ``raised``.

    Args:
        service: the channel's.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._logged = ""

    def __call__(self, policy: str, error: Exception, times: int) -> None:
        """See ``Balancer``. Logs again where the service's policy is another by now."""
        with _counting:
            COUNTERS.add("trimtab_client_policy_errors_total", self._service, by=times)
        if self._logged != policy:
            self._logged = policy
            _log.error(
                "%s: done of the policy %r raised %r: it has not learnt how that attempt ended, requests go "
                "on; this is logged once, trimtab_client_policy_errors_total counts them all",
                self._service, policy, error, exc_info=error,
            )  # fmt: skip
