"""Waiting for a door's channel, opened in any way: until all is connected, until all has ended."""

from harness.waiting import eventually


def connected(channel, count):
    """Waits until so many endpoints are connected; returns the channel."""
    eventually(
        lambda: sum(node.connected for node in channel.balancer.nodes.values()) == count,
        within=15,
        what="all are connected",
    )
    return channel


def idle(channel):
    """Waits until no request is in flight."""
    eventually(
        lambda: not any(node.in_flight for node in channel.balancer.nodes.values()),
        within=10,
        what="nothing is in flight",
    )
