"""The control plane process: sources in, xDS and admin pages out, on one asyncio loop.

``batching`` (pure) says when a change leaves, ``store`` owns the catalog and runs the sources,
``server`` and ``stream`` speak gRPC, ``admin`` HTTP; ``serve`` starts and ends all of them.
"""
