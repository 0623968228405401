"""A FastAPI service that calls another one over HTTP: each request goes to the pod picked for it.

    pip install 'trimtab[httpx]' fastapi hypercorn
    TRIMTAB_CONTROL_PLANE=127.0.0.1:18000 hypercorn fastapi_checkout:app --bind 127.0.0.1:8000
    curl http://127.0.0.1:8000/checkout/7

Its own load reports, from the middleware, let callers that use trimtab spread over its pods.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request

from trimtab.httpx import AsyncTransport
from trimtab.server.asgi import LoadReports

ORDERS = "http://orders.shop:8080"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(transport=AsyncTransport(hosts=["*.shop"])) as client:
        app.state.client = client
        yield


api = FastAPI(lifespan=lifespan)


@api.get("/checkout/{order}")
async def checkout(order: str, request: Request) -> dict[str, Any]:
    answer = await request.app.state.client.get(f"{ORDERS}/orders/{order}")
    answer.raise_for_status()
    return {"order": order, "orders_said": answer.json()}


app = LoadReports(api)
