"""Real parts for tests: the control plane, servers, Envoy and gRPC clients, each a process.

Shared by ``tests/native`` and ``interop``; ``pythonpath`` in pyproject.toml makes it importable.
Nothing here knows xDS: what goes over the wire is between the real programs.
"""
