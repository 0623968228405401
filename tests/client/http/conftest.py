import pytest

from http_doors import DOORS
from http_servers import HttpServers


@pytest.fixture
def servers():
    made = HttpServers()
    yield made
    made.close()


@pytest.fixture(params=DOORS, ids=lambda door: door.__name__)
async def door(request, servers):  # whose clients end before the servers do
    """One kind of HTTP client after the other; call it for a client."""
    made = []

    def make(**arguments):
        made.append(request.param(**arguments))
        return made[-1]

    yield make
    for client in made:
        await client.close()
