"""Doors: drop-in channels for users' programs, each a thin transport around the ``Balancer``.

``grpc_aio`` and ``grpc_sync`` are the doors, ``watching`` and ``subscription`` say where endpoints
come from, ``availability`` whether a call can leave, waits or fails, and in which words.
"""
