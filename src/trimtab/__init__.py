"""trimtab: per-request load balancing for Kubernetes services.

Use ``trimtab`` where you use ``grpc``, and ``trimtab.aio`` where you use ``grpc.aio``::

    import trimtab

    channel = trimtab.insecure_channel("xds:///orders.shop:grpc")
    stub = OrdersStub(channel)
"""

from importlib.metadata import version

from trimtab.attempt import Retry
from trimtab.client.call_details import AttemptDetails, call_details
from trimtab.client.channel_states import debug
from trimtab.client.connections import Connections
from trimtab.client.grpc_sync import insecure_channel, secure_channel
from trimtab.client.last_good import LastGood
from trimtab.client.request_key import request_key
from trimtab.client.request_labels import request_labels
from trimtab.client.spiffe_context import spiffe_context
from trimtab.client.tls_context import tls_context
from trimtab.client.tls_files import tls_credentials
from trimtab.errors import (
    ConfigError,
    DiscoveryError,
    NoEndpoints,
    ProtocolError,
    TransportError,
    TrimtabError,
)
from trimtab.model import Endpoint, Health, Locality, PolicyConfig, Snapshot

__all__ = [
    "AttemptDetails",
    "ConfigError",
    "Connections",
    "DiscoveryError",
    "Endpoint",
    "Health",
    "LastGood",
    "Locality",
    "NoEndpoints",
    "PolicyConfig",
    "ProtocolError",
    "Retry",
    "Snapshot",
    "TransportError",
    "TrimtabError",
    "__version__",
    "call_details",
    "debug",
    "insecure_channel",
    "request_key",
    "request_labels",
    "secure_channel",
    "spiffe_context",
    "tls_context",
    "tls_credentials",
]

__version__ = version("trimtab")
