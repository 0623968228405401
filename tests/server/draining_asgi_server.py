"""Hypercorn in a process of its own: serves, drains on SIGTERM. Prints its port.

``/`` takes a while, so that some are in flight whenever the signal comes; ``/slow`` takes longer than the
news needs to spread.
"""

import asyncio
import socket
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

from trimtab.server import Readiness
from trimtab.server.asgi import Drain

TAKES_S = {"/": 0.05, "/slow": 4.0}
PROPAGATION_S = 3.0  # a busy machine hears late
GRACE_S = 30.0


async def app(scope, _receive, send):
    if scope["type"] == "http":
        await asyncio.wait(
            [asyncio.ensure_future(asyncio.Event().wait())], timeout=TAKES_S[scope["path"]]
        )
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def main():
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen(100)
    port = bound.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.graceful_timeout = GRACE_S
    config.errorlog = None
    readiness = Readiness()
    drain = Drain(readiness, propagation_s=PROPAGATION_S)
    readiness.ready = True
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await serve(drain.asgi(readiness.asgi(app)), config, shutdown_trigger=drain.until_signal)


if __name__ == "__main__":
    asyncio.run(main())
