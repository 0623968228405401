"""A scripted API server, for what a real one can't be made to do on demand."""

from fake_api.server import FakeApi
from fake_api.thread import ThreadedApi
from fake_api.view import FAST, Access, View, viewing

__all__ = ["FAST", "Access", "FakeApi", "ThreadedApi", "View", "viewing"]
