"""HTTP/2 connections of an httpx pool that threads share: what belongs together is done by one at a time.

The blocking HTTP/2 of httpx (httpcore) calls its protocol machine (h2) from all threads at once: two of them may
take one stream number, or put the frames of two requests into each other, and then the server ends the
connection; each may find room for a part of a body, and both send one. h2 itself is for one thread. So a pool's
connections get an h2 whose calls wait for one another, and two pairs of them are a thread's turn: to ask for the
next stream's number and to use it, and to ask how much may be sent and to send it.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event


class InTurns(H2Connection):
    """h2's own, one call at a time. A turn ends with its thread's request at the latest: see ``end_turn``."""

    def __init__(self, config: H2Configuration | None) -> None:
        super().__init__(config)
        self._calls = threading.RLock()
        self._turn_of: int | None = None  # a thread that holds ``_calls`` from one call to another

    def _begin_turn(self) -> None:
        self._calls.acquire()
        if self._turn_of is None:
            self._turn_of = threading.get_ident()
        else:  # this thread's: nobody else gets here
            self._calls.release()

    def end_turn(self) -> None:
        """Let other threads go on, if it is this one's turn."""
        if self._turn_of == threading.get_ident():
            self._turn_of = None
            self._calls.release()

    def get_next_available_stream_id(self) -> int:
        """See h2; the turn ends with ``send_headers``."""
        self._begin_turn()
        try:
            return super().get_next_available_stream_id()
        except BaseException:
            self.end_turn()
            raise

    def send_headers(self, *args: Any, **options: Any) -> None:
        """See h2."""
        with self._calls:
            try:
                super().send_headers(*args, **options)
            finally:
                self.end_turn()

    def local_flow_control_window(self, stream_id: int) -> int:
        """See h2; the turn ends with ``send_data``. Where nothing may be sent there is none."""
        self._begin_turn()
        room = 0
        try:
            room = super().local_flow_control_window(stream_id)
        finally:
            if room <= 0:
                self.end_turn()
        return room

    def send_data(self, *args: Any, **options: Any) -> None:
        """See h2."""
        with self._calls:
            try:
                super().send_data(*args, **options)
            finally:
                self.end_turn()

    def end_stream(self, stream_id: int) -> None:
        """See h2."""
        with self._calls:
            super().end_stream(stream_id)

    def increment_flow_control_window(self, increment: int, stream_id: int | None = None) -> None:
        """See h2. A stream whose answer has come, which other threads read, needs no window any more."""
        with self._calls:
            stream = None if stream_id is None else self.streams.get(stream_id)
            if stream_id is None or (stream is not None and not stream.closed):
                super().increment_flow_control_window(increment, stream_id)

    def acknowledge_received_data(self, acknowledged_size: int, stream_id: int) -> None:
        """See h2."""
        with self._calls:
            super().acknowledge_received_data(acknowledged_size, stream_id)

    def receive_data(self, data: Any) -> list[Event]:
        """See h2."""
        with self._calls:
            return super().receive_data(data)

    def data_to_send(self, amount: int | None = None) -> bytes:
        """See h2."""
        with self._calls:
            return super().data_to_send(amount)

    def close_connection(self, *args: Any, **options: Any) -> None:
        """See h2."""
        with self._calls:
            super().close_connection(*args, **options)


def take_turns(pool: Any) -> None:
    """Have the HTTP/2 connections that a pool of httpcore will make use ``InTurns``.

    A pool has no place for that: its connection makes the HTTP/2 one when it knows the protocol, and keeps it in
    ``_connection``, which has its h2 in ``_h2_state``. Where a later httpcore has neither, all stays as it was.
    """
    make = pool.create_connection

    def create_connection(origin: Any) -> Any:
        connection = make(origin)
        kind: Any = type(connection)
        connection.__class__ = _taking_turns(kind)
        return connection

    pool.create_connection = create_connection


@cache
def _taking_turns(kind: Any) -> Any:
    """A class of connections as ``kind`` is one, which make what ``take_turns`` says."""

    class Connection(kind):  # type: ignore[misc]
        @property
        def _connection(self) -> Any:
            return self.__dict__.get("_connection")  # None, too, if it has no such name

        @_connection.setter
        def _connection(self, made: Any) -> None:
            state = getattr(made, "_h2_state", None)
            if state is not None:  # nothing has been sent yet
                made._h2_state = InTurns(state.config)  # noqa: SLF001
            self.__dict__["_connection"] = made

        def handle_request(self, request: Any) -> Any:
            try:
                return super().handle_request(request)
            finally:
                state = getattr(self._connection, "_h2_state", None)
                if isinstance(state, InTurns):  # an error, or a stop, in the middle of a turn
                    state.end_turn()

    return Connection
