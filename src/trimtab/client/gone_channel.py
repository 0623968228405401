"""What stands where a closed native channel of asyncio was, so that nothing keeps that one.

As long as one channel is kept, and be it by garbage that is not collected yet, gRPC keeps each event loop that
it has ever met: with a loop per job (``asyncio.run``) all of them.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import grpc.aio


class _Gone:
    """As much of a closed channel as may still be asked."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002 - gRPC's signature
        """See ``grpc.aio.Channel``."""
        return grpc.ChannelConnectivity.SHUTDOWN

    def unary_unary(self, *_given: Any, **_more: Any) -> Any:
        """Likewise; a call is refused."""
        return refuse


def refuse(*_given: Any, **_more: Any) -> NoReturn:
    """A call over it.

    Raises:
        grpc.aio.UsageError: always, as over a closed channel.
    """
    raise grpc.aio.UsageError("Channel is closed.")


GONE: Any = _Gone()
