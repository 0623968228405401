"""What the demo's processes say to each other: one JSON object per line on stdin and stdout.

A child ends when its stdin does, so nothing outlives the demo even if that is killed.
"""

from __future__ import annotations

import msgspec

from trimtab.demo.experiment import Experiment, Mode


class Message(msgspec.Struct, frozen=True, tag=True):
    """The base: the class's name stands in the field ``type``."""


# To a server process.
class Open(Message, frozen=True):
    """Listen on a free port, with an empty queue and counts at zero. Answer: ``Opened``."""


class Close(Message, frozen=True):
    """Stop listening and drop what is left. Answer: ``Closed``."""


# From a server process.
class Opened(Message, frozen=True):
    """It listens on 127.0.0.1:``port``."""

    port: int


class Serving(Message, frozen=True):
    """How it is doing: requests received since it opened, and those that are there now."""

    received: int
    in_flight: int


class Closed(Message, frozen=True):
    """Its last word on this opening.

    Attributes:
        measured: requests received that belong to the measured window.
        first_at: monotonic clock at the first request, None if there was none.
        overrun_p99_ms: by how much its timer was late, 99th percentile.
    """

    measured: int
    first_at: float | None
    overrun_p99_ms: float


# To a load process.
class Prepare(Message, frozen=True):
    """Make the channels of a phase and connect them. Answer: ``Ready``.

    Attributes:
        mode: their kind.
        experiment: the schedule's parameters.
        share: which of the load processes this is, from 0.
        targets: ``host:port`` of the servers that are there now.
        control_plane: ``host:port`` of the xDS server.
        cluster: the name under which it knows the servers.
    """

    mode: Mode
    experiment: Experiment
    share: int
    targets: tuple[str, ...]
    control_plane: str
    cluster: str


class Go(Message, frozen=True):
    """Begin at ``at``, on the monotonic clock that all processes of a machine share."""

    at: float


class Learn(Message, frozen=True):
    """These are all the servers now. Only ``round_robin`` is told by this way."""

    targets: tuple[str, ...]


# From a load process.
class Ready(Message, frozen=True):
    """All channels are connected."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The end of one request.

    Attributes:
        index: its place in the schedule.
        latency_s: seconds from its scheduled arrival.
        failed: whether it ended in anything but OK.
    """

    index: int
    latency_s: float
    failed: bool


class Answers(Message, frozen=True):
    """The requests that ended since the last such message."""

    answers: tuple[Answer, ...]


class Finished(Message, frozen=True):
    """Every request of the phase has ended and the channels are closed.

    Attributes:
        lag_p99_ms: by how much requests left later than scheduled, 99th percentile.
        lag_max_ms: the same, at worst.
        errors: how many failed, by gRPC status name.
    """

    lag_p99_ms: float
    lag_max_ms: float
    errors: dict[str, int]


class Failed(Message, frozen=True):
    """The process can't do what it was told; the text is for the user."""

    reason: str


ToServer = Open | Close
FromServer = Opened | Serving | Closed | Failed
ToLoad = Prepare | Go | Learn
FromLoad = Ready | Answers | Finished | Failed
