"""A caller's iterator of requests in threads: read once, in order, sent by one attempt after the other.

gRPC takes from an attempt's iterator in a thread of that attempt's own, one message when the one before has been
handed to the connection. Whichever thread finds that there is none yet reads the caller's iterator; one whose
attempt has ended meanwhile leaves what it has read to the next attempt's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any, Self

from trimtab.attempt import Kept, Recording, Step


class RecordedRequests:
    """The requests of one call.

    Args:
        requests: the caller's iterator.
        limit: how many bytes are kept.

    Attributes:
        recording: what was read so far.
    """

    def __init__(self, requests: Iterator[Any], limit: int) -> None:
        lock = threading.RLock()
        self.recording = Recording(limit, lock)
        self._news = threading.Condition(lock)
        self._requests = requests
        # The caller's: in an attempt's, a call that the iterator makes would be taken for one of its attempts.
        self._context = copy_context()

    def attempt(self) -> RecordedIterator:
        """What another attempt sends."""
        made = RecordedIterator(self, self.recording.begin())
        with self._news:
            self._news.notify_all()  # the thread of an earlier one need not wait for the caller's iterator
        return made

    def next(self, attempt: int) -> Kept:
        """The next message of an attempt; raises StopIteration, or what the caller's iterator raised."""
        recording = self.recording
        while True:
            with self._news:
                found = recording.take(attempt)
                if found is Step.WAIT:
                    self._news.wait()
            if isinstance(found, Kept):
                return found
            if found is Step.READ:
                self._read()
            elif found is Step.END and recording.error is not None:
                raise recording.error
            elif found is not Step.WAIT:
                raise StopIteration

    def _read(self) -> None:
        recording = self.recording
        try:
            message = self._context.run(next, self._requests)
        except StopIteration:
            recording.end()
        except BaseException as error:  # noqa: BLE001 - raised where the attempt that runs comes to it
            recording.end(error)
        else:
            recording.add(message)
        with self._news:
            self._news.notify_all()


class RecordedIterator:
    """What gRPC iterates over in one attempt.

    It stops when that has ended, when gRPC sends nothing any more: never does it half-close a stream too soon.
    """

    def __init__(self, requests: RecordedRequests, attempt: int) -> None:
        self._requests = requests
        self._attempt = attempt

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Kept:
        return self._requests.next(self._attempt)
