"""Strategies that a channel can't use, or that raise when they are told how an attempt ended.

The latter is counted each time. Either is logged once per channel.
"""

from __future__ import annotations

import logging
import threading

from trimtab.client.forking import hold_across_forks
from trimtab.client.metrics import COUNTERS

_log = logging.getLogger("trimtab.client")
_counting = threading.Lock()
hold_across_forks(_counting)


class PolicyErrors:
    """Give it to a balancer as ``raised``.

    Args:
        service: the channel's.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._logged = ""
        self._refused = ""

    def __call__(self, policy: str, error: Exception, times: int) -> None:
        """See ``Balancer``. Logs again where the service's policy is another by now."""
        if self._logged != policy:
            self._logged = policy
            _log.error(
                "%s: done of the policy %r raised %r: it has not learnt how that attempt ended, requests go "
                "on; this is logged once, trimtab_client_policy_errors_total counts them all",
                self._service, policy, error, exc_info=error,
            )  # fmt: skip
        with _counting:
            COUNTERS.add("trimtab_client_policy_errors_total", self._service, by=times)

    def refused(self, why: str) -> None:
        """Hear after each update why the policy that the service asks for can't be used; "": it can."""
        if why and why != self._refused:
            _log.warning(
                "%s: the service's policy can't be used here, the one before goes on: %s; install the package "
                "that brings it, or name another by trimtab.dev/policy",
                self._service, why,
            )  # fmt: skip
        self._refused = why
