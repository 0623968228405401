"""An API server that says whose a token is, with answers that a test chooses; and such tokens."""

import asyncio
import base64
import contextlib
import json
import time

from aiohttp import web

from trimtab.control.token_review_call import NOBODY
from trimtab.discovery.kubernetes.access import ApiServer
from trimtab.discovery.kubernetes.credentials import Fixed
from trimtab.discovery.kubernetes.tls import Tls


class Reviewer:
    """An API server that knows some tokens: real HTTP, with answers that a test chooses."""

    def __init__(self):
        self.known = {}
        self.seen = []
        self.status = 201
        self.body = b""  # in place of an answer
        self._answers = asyncio.Event()
        self._answers.set()
        app = web.Application()
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review)
        self._runner = web.AppRunner(app)

    async def __aenter__(self):
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]
        self.access = ApiServer(
            name="test",
            server=f"http://127.0.0.1:{port}",
            origin="the test",
            credentials=Fixed(),
            tls=Tls(),
        )
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    @contextlib.contextmanager
    def hanging(self):
        """It takes questions, and answers them at the end."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    async def _review(self, request):
        body = await request.json()
        spec = body["spec"]
        if spec["token"] != NOBODY:
            self.seen.append(spec)
        await self._answers.wait()
        if self.body:
            return web.Response(body=self.body, status=self.status)
        user, audiences = self.known.get(spec["token"], (None, []))
        status = {"authenticated": user is not None}
        if user:
            status |= {"user": {"username": user}, "audiences": audiences}
        return web.json_response({**body, "status": status}, status=self.status)


def jwt(expires_in_s, name="web"):
    claims = json.dumps({"exp": time.time() + expires_in_s, "n": name})  # noqa: TID251 - as in JWTs
    return "e30." + base64.urlsafe_b64encode(claims.encode()).decode().rstrip("=") + ".c2ln"
