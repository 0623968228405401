"""The bodies of aiohttp's responses: a pick lasts until the last byte."""

from __future__ import annotations

import aiohttp
from aiohttp import ClientResponse

from trimtab.balancer import Pick
from trimtab.load_report import LoadReport
from trimtab.policies import Outcome

_SWITCHING = 101


def count(
    pick: Pick, response: ClientResponse, outcome: Outcome, report: LoadReport | None
) -> None:
    """A response came: it counts until its body ends."""
    connection = response.connection
    if connection is None or response.status == _SWITCHING:
        # All of the body is here; or there is none, and what follows is another protocol.
        pick.finish(outcome, report)
    else:
        connection.add_callback(_Claim(pick, outcome, report, response.content))


class _Claim:
    """What a connection calls when it has no more use for a response.

    Until then the request counts: till its body ends, is given up, or is forgotten.
    """

    __slots__ = ("_content", "_outcome", "_pick", "_report")

    def __init__(
        self, pick: Pick, outcome: Outcome, report: LoadReport | None, content: aiohttp.StreamReader
    ) -> None:
        self._pick = pick
        self._outcome = outcome
        self._report = report
        self._content = content

    def __call__(self) -> None:
        outcome, error = self._outcome, self._content.exception()
        if error is not None:
            if isinstance(error, aiohttp.ClientPayloadError):
                outcome = Outcome.FAILURE
            elif isinstance(
                error, aiohttp.ServerTimeoutError
            ):  # no part of it within ``sock_read``
                outcome = Outcome.TIMEOUT
        self._pick.finish(outcome, self._report)

    def __del__(self) -> None:
        if self._pick.open:  # dropped unread: the caller lost interest
            self._pick.drop()
