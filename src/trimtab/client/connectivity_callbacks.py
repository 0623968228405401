"""Who wants to hear of a sync channel's connectivity.

Callbacks run in order on a thread that lives while there is something to tell, as with native
channels: they may block, and even call the channel.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import grpc

_log = logging.getLogger("trimtab.client")

Callback = Callable[[grpc.ChannelConnectivity], None]


class ConnectivityCallbacks:
    """Callbacks, each with what it was told last."""

    def __init__(self, connectivity: grpc.ChannelConnectivity) -> None:
        self._lock = threading.RLock()  # a signal handler may close the channel in between
        self._connectivity = connectivity
        self._told: list[tuple[Callback, grpc.ChannelConnectivity | None]] = []
        self._telling = False

    def add(self, callback: Callback) -> None:
        """Tell ``callback`` the present state and every later one."""
        with self._lock:
            self._told.append((callback, None))
            self._tell()

    def remove(self, callback: Callback) -> None:
        """Tell ``callback`` no more; unknown ones are ignored, as gRPC does."""
        with self._lock:
            for i, (known, _) in enumerate(self._told):
                if known == callback:
                    del self._told[i]
                    return

    def clear(self) -> None:
        """Tell nobody any more."""
        with self._lock:
            self._told.clear()

    def publish(self, connectivity: grpc.ChannelConnectivity) -> None:
        """This is the state now."""
        with self._lock:
            self._connectivity = connectivity
            self._tell()

    def _tell(self) -> None:
        """Under the lock: start a thread if there is something to tell and none is at it."""
        if self._telling or self._next() is None:
            return
        thread = threading.Thread(target=self._tell_all, name="trimtab-connectivity", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # At a limit of threads, or as the interpreter ends. The caller may be the thread that
            # all channels hear their endpoints from.
            _log.warning("connectivity callbacks hear of this with the next change: %s", error)
        else:
            self._telling = True

    def _next(self) -> int | None:
        state = self._connectivity
        return next((i for i, (_, told) in enumerate(self._told) if told is not state), None)

    def _tell_all(self) -> None:
        while True:
            with self._lock:
                i = self._next()
                if i is None:
                    self._telling = False
                    return
                callback, state = self._told[i][0], self._connectivity
                self._told[i] = (callback, state)
            try:
                callback(state)
            except Exception:  # noqa: BLE001 - the caller's bug must not end the others' news
                _log.exception("a connectivity callback raised; it will hear the next change")
