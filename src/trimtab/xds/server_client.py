"""Who is at the other end of a stream, and so what it is sent."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from trimtab.model import ServicePort
from trimtab.xds.assignments import View
from trimtab.xds.resources import EdsSource
from trimtab.xds.zone_views import Place


class ClientKind(enum.Enum):
    """Which implementation a client is, by its ``user_agent_name``."""

    TRIMTAB = "trimtab"
    GRPC = "grpc"
    ENVOY = "envoy"
    OTHER = "other"

    @classmethod
    def of(cls, user_agent_name: str) -> ClientKind:
        """Tell by the name: ``trimtab``, ``gRPC Go`` and the like, ``envoy``."""
        name = user_agent_name.lower()
        if name.startswith("trimtab"):
            return cls.TRIMTAB
        if name.startswith("grpc"):
            return cls.GRPC
        return cls.ENVOY if name == "envoy" else cls.OTHER


class Audience(Protocol):
    """What a client may know of. Its answers may change; then ``Catalog.reauthorize`` is called."""

    def sees(self, service: ServicePort | None) -> bool:
        """Whether the client may know of a Service; None is a cluster without one."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end of a stream, from the node of its first request.

    Attributes:
        node_id: the node's id.
        kind: the implementation.
        namespace: from the node's metadata, ``namespace`` or ``NAMESPACE``; "" if absent.
        user_agent: name and version as announced.
        eds_source: what its Clusters say of where their endpoints are; None: on the same stream.
        audience: what it may know of, by its verified identity; None: everything.
        place: where it runs, as far as it says; None: nowhere that makes a difference.
    """

    node_id: str = ""
    kind: ClientKind = ClientKind.OTHER
    namespace: str = ""
    user_agent: str = ""
    eds_source: EdsSource | None = None
    audience: Audience | None = field(default=None, compare=False)
    place: Place | None = None

    @property
    def view(self) -> View:
        """What of a snapshot it is sent."""
        return View.FULL if self.kind is ClientKind.TRIMTAB else View.LEAN

    @property
    def goes_by_localities(self) -> bool:
        """Whether it may be sent a split over zones, and would overlook it."""
        return (
            self.kind is ClientKind.GRPC
            and self.place is not None
            and self.place.service is not None
        )
