"""A server's death that gRPC knows of, and a channel not yet."""

import grpc

from harness.waiting import eventually
from trimtab.client.sync_cluster import READY, ask_by_call


def kill(process, target, channel):
    """Return when gRPC's own threads have heard: what left before may have reached the server.

    On a channel's loop the channel can't hear of it before this returns.
    """
    (node,) = (n for n in channel.balancer.nodes.values() if n.endpoint.target == target)
    native = node.transport.channel

    def heard():
        if isinstance(native, grpc.Channel):
            return ask_by_call(native)(False) != READY
        return native.get_state() is not grpc.ChannelConnectivity.READY

    process.kill()
    eventually(heard, within=15, what=f"the connection to {target} is known to be gone")
