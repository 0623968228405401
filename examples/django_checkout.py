"""A Django service, in one file, whose views make blocking requests to another service.

    pip install 'trimtab[httpx]' django gunicorn
    TRIMTAB_CONTROL_PLANE=127.0.0.1:18000 gunicorn django_checkout:application --bind 127.0.0.1:8000
    curl http://127.0.0.1:8000/checkout/7

The client is made at the first request, so after a server that forks has forked.
"""

from __future__ import annotations

from functools import cache

import django
import httpx
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from trimtab.httpx import Transport

ORDERS = "http://orders.shop:8080"


@cache
def client() -> httpx.Client:
    return httpx.Client(transport=Transport(hosts=["*.shop"]), timeout=5.0)


def checkout(_request: HttpRequest, order: str) -> JsonResponse:
    answer = client().get(f"{ORDERS}/orders/{order}")
    answer.raise_for_status()
    return JsonResponse({"order": order, "orders_said": answer.json()})


urlpatterns = [path("checkout/<str:order>", checkout)]

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
django.setup()
application = get_wsgi_application()
