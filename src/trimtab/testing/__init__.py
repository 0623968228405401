"""For tests of programs that use trimtab: a clock, a source, a control plane, and what policies promise.

A control plane in the test's own process, with the endpoints that the test wants::

    import trimtab
    from trimtab.testing import ControlPlane

    def test_orders_are_spread(two_servers):
        with ControlPlane() as control_plane:
            control_plane.set("orders.shop:grpc", [two_servers[0], two_servers[1]])
            with trimtab.insecure_channel(
                "xds:///orders.shop:grpc", bootstrap=control_plane.bootstrap()
            ) as channel:
                stub = OrdersStub(channel)
                ...
            control_plane.remove("orders.shop:grpc")

It speaks real xDS over a loopback port, with the code of ``trimtab serve`` behind it, so native
gRPC clients (``GRPC_XDS_BOOTSTRAP_CONFIG``) can use it too.

``policy_contract`` holds the promises that a policy of your own should keep.
"""

from trimtab.testing import policy_contract
from trimtab.testing.control_plane import ConnectedClient, ControlPlane
from trimtab.testing.fakes import FakeClock, FakeSource

__all__ = ["ConnectedClient", "ControlPlane", "FakeClock", "FakeSource", "policy_contract"]
