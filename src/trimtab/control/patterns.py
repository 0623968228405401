"""Patterns of names in the configuration: ``*`` stands for any characters, all others for themselves.

The shell's patterns won't do: a SPIFFE id may hold ``?`` and ``[``, and would let in who isn't named.
"""

from __future__ import annotations


def fits(text: str, pattern: str) -> bool:
    """Whether all of ``text`` is as ``pattern`` says; upper and lower case are different."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first):
        return False
    at = len(first)
    for part in middle:  # the earliest place leaves most for the others
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return text.endswith(last) and len(text) - len(last) >= at
