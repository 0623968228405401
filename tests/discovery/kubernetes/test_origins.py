"""When what is told happened: by the object's own annotation, where it can be trusted."""

import asyncio
from datetime import UTC, datetime, timedelta

from fake_api import viewing
from fake_api.view import until
from kube import endpoint_slice
from trimtab.model import Updated


def ago(seconds):
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def last(view):
    return [e for e in view.told if isinstance(e, Updated)][-1]


async def test_a_change_happened_when_its_slice_says_that_it_was_triggered(api):
    async with viewing(api) as view:
        api.put(endpoint_slice("c", "10.0.0.3", stamp=ago(30)))
        await until(lambda: "10.0.0.3" in view.addresses())
        assert 29 < asyncio.get_running_loop().time() - last(view).since < 60


async def test_a_slice_of_a_first_list_or_without_a_readable_time_says_nothing_of_when(api):
    api.put(endpoint_slice("old", "10.0.0.4", stamp=ago(3000)))
    async with viewing(api) as view:
        assert last(view).since is None
        api.put(endpoint_slice("c", "10.0.0.3", stamp="yesterday"))
        await until(lambda: "10.0.0.3" in view.addresses())
        assert last(view).since is None
