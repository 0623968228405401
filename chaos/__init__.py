"""Faults of real processes under the same load through three clients; see ``python -m chaos --help``."""
