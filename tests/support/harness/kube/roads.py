"""Native gRPC for Go, and Envoy by both transports, to the Service ``orders`` of a test's namespace."""

from harness.client import Road
from harness.envoy import Envoy, aggregated
from harness.go_client import go_client
from harness.traffic import Traffic


def and_others(traffic, control_plane, space, started, directory):
    """The traffic of Python's native gRPC and trimtab's client, with these beside it.

    Args:
        traffic: as of ``fixtures.traffic_of``; the roads through Envoy start at its first client.
        control_plane: theirs.
        space: the namespace, in which the Service is.
        started: takes what must be stopped at the end.
        directory: for Envoys' files.
    """
    (native, roads), *others = traffic.clients
    proxied = {}
    for transport in ("sotw", "delta"):
        name = f"envoy-{transport}"
        envoy = started(Envoy(name, aggregated(name, control_plane.address, transport), directory))
        envoy.wait_ready()
        envoy.wait_cluster(space.cluster(), within=15)
        proxied[name] = envoy.road(space.cluster())
    printed = control_plane.bootstrap("grpc", node_id="go", namespace=space.name)
    go = started(go_client(printed)), {"go": Road(f"xds:///{space.cluster()}")}
    return Traffic([(native, roads | proxied), *others, go])
