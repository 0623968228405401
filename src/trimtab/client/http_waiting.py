"""Waiting for the first endpoints of a cluster, on an event loop or in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress

from trimtab.balancer import Node, Pick
from trimtab.client.http_cluster import HttpCluster, Unknown
from trimtab.client.request_labels import wanted_labels


async def pick_soon(
    cluster: HttpCluster, key: str | None, patience: float | None, been: Sequence[Node] = ()
) -> Pick:
    """Choose an endpoint; while none is known, wait.

    Args:
        cluster: whose.
        key: see ``Balancer.pick``.
        patience: the longest wait [s]; None: for ever.
        been: where the request has been.

    Raises:
        Unknown: none became known in time, or the cluster was forgotten just before: so many have
            been asked for since, that nobody knows.
        LetGo: it was let go of just before.
        NoEndpoints: nobody can be asked; the text says why.
    """
    labels = wanted_labels()
    try:
        return cluster.pick(key, labels, been)
    except Unknown as error:
        last = error
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed in the middle of this
            loop.call_soon_threadsafe(told.set)

    followed = cluster.add_waiter(wake)
    try:
        async with asyncio.timeout(patience):
            while True:
                told.clear()
                try:
                    return cluster.pick(key, labels, been)
                except Unknown as error:
                    last = error
                if not followed:
                    raise last
                await told.wait()
    except TimeoutError:
        raise last from None
    finally:
        cluster.remove_waiter(wake)


def pick_blocking(
    cluster: HttpCluster, key: str | None, patience: float | None, been: Sequence[Node] = ()
) -> Pick:
    """``pick_soon`` for threads."""
    labels = wanted_labels()
    try:
        return cluster.pick(key, labels, been)
    except Unknown as error:
        last = error
    told = threading.Event()
    followed = cluster.add_waiter(told.set)
    until = None if patience is None else cluster.clock() + patience
    try:
        while True:
            told.clear()
            try:
                return cluster.pick(key, labels, been)
            except Unknown as error:
                last = error
            left = None if until is None else until - cluster.clock()
            if not followed or (left is not None and left <= 0.0) or not told.wait(left):
                raise last from None
    finally:
        cluster.remove_waiter(told.set)
