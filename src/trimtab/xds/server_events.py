"""What a server session tells its owner: for logs, metrics and the pages that explain."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Subscribed:
    """The client asked for resources that it had not subscribed to.

    Attributes:
        type_url: their type.
        names: as asked; ``*`` for all.
    """

    type_url: str
    names: tuple[str, ...]


@dataclass(slots=True)
class Acked:
    """The client accepted a response.

    Attributes:
        type_url: the resources' type.
        names: of the resources in it that the client had not accepted before.
        version: the response's version (delta: of its only resource, else "").
        replaced: the clusters of which it had an earlier state, and now has the latest that it was
            sent.
    """

    type_url: str
    names: tuple[str, ...]
    version: str
    replaced: tuple[str, ...] = field(default=(), compare=False)


@dataclass(slots=True)
class Nacked:
    """The client refused a response. The refused versions are not sent to it again.

    Attributes:
        type_url: the resources' type.
        names: those that the text blames, else all that were new in the response.
        version: as in ``Acked``.
        code: the client's status code; implementations differ in it, so it means nothing.
        text: the client's reason; of a long text the end, where the reason stands.
    """

    type_url: str
    names: tuple[str, ...]
    version: str
    code: int
    text: str


@dataclass(slots=True)
class Unserved:
    """The client asked for a type of resource that trimtab does not serve; it gets no answer."""

    type_url: str


@dataclass(slots=True)
class TooLarge:
    """A response that the protocol does not allow to be split exceeds what native gRPC accepts.

    Attributes:
        type_url: the resources' type.
        size: of the response, bytes.
        limit: what is safe, bytes.
    """

    type_url: str
    size: int
    limit: int


Event = Subscribed | Acked | Nacked | Unserved | TooLarge


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """What one stream has of one resource.

    Attributes:
        type_url: its type.
        name: as asked.
        cluster: the canonical cluster behind it, "" if there is none.
        sent: the version sent last, "" if none.
        acked: the version that the client accepted last, "" if none.
        state: ``waiting`` (nothing sent yet), ``sent``, ``acked``, ``nacked``, ``absent``.
        error: the client's reason for a NACK, else "".
        since: when it was first in this state [s, loop time]: accepted this version, or rejected
            something (and accepted nothing newer); None if it is in neither, or was so already
            before this stream.
    """

    type_url: str
    name: str
    cluster: str
    sent: str
    acked: str
    state: str
    error: str
    since: float | None
