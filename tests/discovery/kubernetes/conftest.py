import pytest

from fake_api import FakeApi
from kube import endpoint_slice, service


@pytest.fixture
async def api():
    """A fake API server with the Service ``orders.shop`` of two slices."""
    made = FakeApi()
    await made.start()
    made.put(service(), endpoint_slice("a", "10.0.0.1"), endpoint_slice("b", "10.0.0.2"))
    yield made
    await made.stop()
