"""Channels whose endpoints the test tells, in place of a control plane."""

from trimtab.client.channel_spec import ChannelSpec


class FromControlPlane:
    """The watch of one that never speaks."""

    origin = "control plane 10.0.0.1:18000"

    def close(self):
        """Nobody is watched."""


NOWHERE = {"xds_servers": [{"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}]}


class ToldSpec(ChannelSpec):
    """Watches nobody: the test calls the watcher itself."""

    __slots__ = ()

    def watch(self, watcher):
        return FromControlPlane()


def spec(endpoints, given):
    """A channel's arguments; ``endpoints`` None leaves them to the test."""
    kind = ToldSpec if endpoints is None else ChannelSpec
    return kind.of(
        "orders.shop:80",
        given.get("credentials"),
        given.get("options"),
        given.get("compression"),
        policy=given.get("policy"),
        endpoints=endpoints,
        bootstrap=NOWHERE if endpoints is None else None,
        locality=given.get("locality"),
        labels=given.get("labels"),
        retry=given.get("retry"),
        health=given.get("health"),
        hash_key=given.get("hash_key"),
        connections=given.get("connections"),
    )
