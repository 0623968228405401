"""Faults of real processes under the same load through several clients; see ``python -m chaos --help``."""
