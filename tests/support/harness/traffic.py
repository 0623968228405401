"""Load over several clients at once; each must do what is said."""

import contextlib
import os
from dataclasses import dataclass

from harness.client import Client, Load, Road

RATE = 30
ABSENCE_S = float(os.environ.get("TRIMTAB_ABSENCE_S", "0"))
"""How long control planes and API servers stay away [s]; docs/results/never-empty.md has 1,200."""


@dataclass
class Traffic:
    """All the roads to a Service, named as the nodes that ask for it.

    Attributes:
        clients: which roads start at which client process.
    """

    clients: list[tuple[Client, dict[str, Road]]]

    @property
    def nodes(self):
        return [name for _, roads in self.clients for name in roads]

    @contextlib.contextmanager
    def load(self, rate=RATE):
        """Requests at ``rate`` per second over each road; at the end no error on any.

        Yields:
            The loads of the clients as one.
        """
        with contextlib.ExitStack() as stack:
            yield Loads(
                [
                    stack.enter_context(client.load(roads, rate=rate * len(roads)))
                    for client, roads in self.clients
                ]
            )


@dataclass
class Loads:
    """Several loads; each must do what is said."""

    loads: list[Load]

    def served(self):
        """Requests answered so far: by road, by server."""
        return {road: found for load in self.loads for road, found in load.served().items()}

    def comes_from(self, *servers, within=30):
        for load in self.loads:
            load.comes_from(*servers, within=within)

    def goes_on(self, requests, within=30):
        for load in self.loads:
            load.goes_on(requests, within=within)

    def goes_without(self, requests):
        """As ``goes_on``, while what they are to do without is away: for ``ABSENCE_S`` at least."""
        # By one of the loads; each would wait for as long again.
        self.loads[0].goes_on(round(ABSENCE_S * RATE), within=30 + 2 * ABSENCE_S)
        self.goes_on(requests)
