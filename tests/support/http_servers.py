"""Real HTTP servers on loopback, in threads of this process, that say what they saw."""

import asyncio
import json
import socket
import threading
from collections import Counter

from hypercorn.asyncio import serve
from hypercorn.config import Config

from trimtab.server.asgi import LoadReports

LONGEST_S = 20


class LoopEvent(asyncio.Event):
    """Set from any thread, awaited on a loop."""

    def __init__(self, loop):
        super().__init__()
        self._loop_of_waiters = loop

    def set(self):
        if not self._loop_of_waiters.is_closed():
            self._loop_of_waiters.call_soon_threadsafe(super().set)


class HttpServer:
    """One server: one pod of the tests. HTTP/1.1, HTTP/2 and, with a certificate, TLS.

    Attributes:
        served: requests by path.
        holding: requests that wait for ``let_go``.
    """

    def __init__(self, name, port=0, certificate=None, host="127.0.0.1"):
        self.name = name
        self.host = host
        self.served = Counter()
        self.holding = 0
        self.status = {}
        self.headers = {}
        self.opened = 0
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(100)
        self.port = bound.getsockname()[1]
        self._config = Config()
        self._config.bind = [f"fd://{bound.detach()}"]
        self._config.graceful_timeout = 0.1
        self._config.shutdown_timeout = 1.0
        self._config.errorlog = None
        if certificate:
            self._config.certfile, self._config.keyfile = certificate
            self._config.bind, self._config.insecure_bind = self._config.bind, []
        self._loop = asyncio.new_event_loop()
        self.let_go = LoopEvent(self._loop)
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(LONGEST_S)

    @property
    def target(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def stop(self):
        """Close the port and what is open."""
        self.let_go.set()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(LONGEST_S)
            assert not self._thread.is_alive()

    def _run(self):
        try:
            self._loop.run_until_complete(
                serve(LoadReports(self._app), self._config, shutdown_trigger=self._stop.wait)
            )
        finally:
            self._loop.run_until_complete(_end_tasks())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _app(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.startup":
                    self._up.set()
                else:
                    return
        path = scope["path"]
        self.served[path] += 1
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        seen = {
            "server": self.name,
            "host": headers.get("host", ""),
            "version": scope["http_version"],
            "method": scope["method"],
            "target": scope["raw_path"].decode() + "?" + scope["query_string"].decode(),
            "body": body.decode(),
        }
        if path == "/hold":
            self.holding += 1
            await self.let_go.wait()
        answer = json.dumps(seen).encode()
        status = self.status.get(path, 200)
        own = [(k.encode(), v.encode()) for k, v in self.headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": own})
        if path == "/parts":
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await self.let_go.wait()
            answer = b"last"
        await send({"type": "http.response.body", "body": answer})


async def _end_tasks():
    """Such as a handshake that a client began and that nobody will finish."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class HttpServers:
    """Opens servers; closes what is still open."""

    def __init__(self):
        self._open = []

    def open(self, *names, port=0, **how):
        made = [HttpServer(name, port, **how) for name in names]
        self._open.extend(made)
        return made if len(made) > 1 else made[0]

    def close(self):
        for server in self._open:
            server.stop()
