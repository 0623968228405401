"""One sync gRPC stream of bytes in both directions, with the thread that reads it. No decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import grpc


class BytesStream:
    """An open stream; it ends with its channel at the latest.

    Args:
        channel: the connection.
        method: the path.
        name: of the thread.
        received: called with each response, on the stream's thread.
        closed: called once with gRPC's text when it has ended, on the stream's thread.

    Raises:
        ValueError: the channel is closed.
        RuntimeError: the process has as many threads as it may.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        method: str,
        name: str,
        received: Callable[[bytes], None],
        closed: Callable[[str], None],
    ) -> None:
        self._received = received
        self._closed = closed
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        stream: Any = channel.stream_stream(method)  # without serialisers: bytes in, bytes out
        self._call: Any = stream(iter(self._requests.get, None))
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._requests.put(None)  # as below
            self._call.cancel()
            raise

    def send(self, request: bytes) -> None:
        """Write a request after those before it. Never blocks."""
        self._requests.put(request)

    def close(self) -> None:
        """End the stream. Idempotent; never blocks."""
        self._call.cancel()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end [s]."""
        self._thread.join(timeout)

    def _read(self) -> None:
        error = "the control plane ended the stream"
        try:
            for response in self._call:
                self._received(response)
        except grpc.RpcError:
            error = f"{self._call.code().name}: {self._call.details()}"
        finally:
            self._requests.put(None)  # ends gRPC's thread that waits for requests
            self._closed(error)
