"""Services and EndpointSlices of a live cluster, watched through its API server."""
