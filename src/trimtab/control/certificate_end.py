"""Says in time that the control plane's certificate is about to end, which whoever renews it should have prevented."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from trimtab.control import metrics
from trimtab.control.tls import Certificate
from trimtab.discovery.pause import pause
from trimtab.telemetry import Counters

_LOG = logging.getLogger(__name__)

LOOK_S = 60.0
SOON = dt.timedelta(days=14)
LAST_PART = 0.2
"""Of a certificate's whole life. cert-manager renews when a third is left, SPIRE when a half is."""
AGAIN = dt.timedelta(days=1)


class CertificateEnd:
    """Looks at the certificate once a minute.

    Args:
        certificate: of the ports.
        counters: get its end, and whether that is soon.
        wall: Unix time [s].
    """

    def __init__(
        self, certificate: Certificate, counters: Counters, wall: Callable[[], float]
    ) -> None:
        self._certificate = certificate
        self._counters = counters
        self._wall = wall
        self._said: tuple[dt.datetime, dt.datetime] | None = None  # of which end, and when

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await pause(LOOK_S)

    def look(self) -> None:
        """Look once. It is said once a day; that it has ended, too."""
        now = dt.datetime.fromtimestamp(self._wall(), dt.UTC)
        validity = self._certificate.validity()
        if validity is None:
            return
        begin, end = validity
        soon = end - now < min(SOON, LAST_PART * (end - begin))
        self._counters.set(metrics.CERTIFICATE_END, end.timestamp())
        self._counters.set(metrics.CERTIFICATE_ENDS_SOON, int(soon))
        if not soon:
            self._said = None
        elif self._said is None or self._said[0] != end or now - self._said[1] >= AGAIN:
            self._said = end, now
            _LOG.warning(
                "the certificate %s on %s: renew it and put it in its file's place; it is read again without a restart",
                "has ended" if end <= now else "ends",
                end.isoformat(" ", "minutes"),
            )
