"""A file that was broken from the beginning is unknown, and unknown is not empty."""

import asyncio
import contextlib

import pytest

from trimtab.discovery.manifests import Manifests
from trimtab.model import Synced, Updated

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec: {ports: [{name: grpc, port: 8080}]}
"""
BROKEN = "kind: [Service\n"


@pytest.fixture
def problems():
    return []


@pytest.fixture
async def events(tmp_path, problems):
    (tmp_path / "a.yaml").write_text(SERVICE.replace("NAME", "a"))
    (tmp_path / "b.yaml").write_text(BROKEN)
    async with contextlib.aclosing(Manifests(tmp_path, problems.append).events()) as found:
        first = await asyncio.wait_for(anext(found), 10)
        assert isinstance(first, Updated)
        yield found


async def test_nothing_is_synced_before_a_file_that_began_broken_is_mended(
    events, problems, tmp_path
):
    following = asyncio.ensure_future(anext(events))
    done, _ = await asyncio.wait([following], timeout=0.3)
    assert not done
    assert "b.yaml" in problems[0].where
    assert "mend or remove it" in problems[0].fix

    (tmp_path / "b.yaml").write_text(SERVICE.replace("NAME", "b"))
    mended = await asyncio.wait_for(following, 10)
    assert mended.snapshot.cluster == "b.shop:8080"
    assert await asyncio.wait_for(anext(events), 10) == Synced()


async def test_a_file_that_began_broken_no_longer_counts_once_it_is_removed(events, tmp_path):
    (tmp_path / "b.yaml").unlink()
    assert await asyncio.wait_for(anext(events), 10) == Synced()
