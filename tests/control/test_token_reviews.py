"""Reviews of tokens by an API server that hangs, is away, or is kept busy by strangers: over real HTTP."""

import asyncio
import contextlib

import pytest

from plane import eventually
from token_reviewer import Reviewer, jwt
from trimtab.control.authentication import Unauthenticated
from trimtab.control.limits import Limits
from trimtab.control.security import SecurityOptions
from trimtab.control.tls import TlsFiles
from trimtab.control.verdicts import KEEP_S, Verdicts

WEB = "system:serviceaccount:shop:web"


class Clock:
    """Both clocks, some time after they really began."""

    def __init__(self):
        self.ahead_s = 0.0

    def loop(self):
        return asyncio.get_running_loop().time() + self.ahead_s

    def wall(self):
        return self.ahead_s


class Call:
    """What a call with that token proves."""

    def __init__(self, token, address="10.0.0.1"):
        self._token = token
        self._address = address

    def auth_context(self):
        return {}

    def invocation_metadata(self):
        return (("authorization", f"Bearer {self._token}"),)

    def peer(self):
        return f"ipv4:{self._address}:40000"


class Known:
    """Reviews of one control plane, and the API server that they ask."""

    def __init__(self, api, clock, limits):
        verdicts = Verdicts(clock=clock.loop, wall=clock.wall)
        security = SecurityOptions(TlsFiles("c", "k"), audience="trimtab", reviewer=api.access)
        self.api = api
        self.clock = clock
        self.reviews = security.authenticator(verdicts, limits)
        self._strangers = []

    def knows(self, *tokens):
        self.api.known |= {token: (WEB, ["trimtab"]) for token in tokens}

    async def comes(self, token, address="10.0.0.1"):
        """The subject, or the reason why there is none."""
        try:
            return (await self.reviews.identify(Call(token, address))).subject
        except Unauthenticated as error:
            return error.reason

    def strangers(self, count, address="10.9.9.9"):
        """So many calls with garbage, all at once."""
        come = [asyncio.create_task(self.comes(f"garbage {i}", address)) for i in range(count)]
        self._strangers += come
        return come

    async def close(self):
        for task in self._strangers:
            task.cancel()
        await asyncio.gather(*self._strangers, return_exceptions=True)
        await self.reviews.close()


@contextlib.asynccontextmanager
async def known(**limits):
    async with Reviewer() as api:
        one = Known(api, Clock(), Limits(**limits))
        try:
            yield one
        finally:
            await one.close()


@pytest.mark.parametrize("strangers", [16, 100])
async def test_a_known_client_comes_in_at_once_while_strangers_wait_for_a_hanging_api_server(
    strangers,
):
    good = jwt(600)
    async with known() as plane:
        plane.knows(good)
        assert await plane.comes(good) == WEB
        with plane.api.hanging():
            plane.strangers(strangers)
            await eventually(lambda: len(plane.api.seen) > 1)
            coming = asyncio.create_task(plane.comes(good))
            await asyncio.wait([coming], timeout=0)
            assert coming.done()  # it waited for nothing
            assert coming.result() == WEB


async def test_strangers_of_one_address_leave_places_for_a_new_client_of_another():
    new = jwt(600)
    async with known() as plane:
        plane.knows(new)
        with plane.api.hanging():
            plane.strangers(100)
            coming = asyncio.create_task(plane.comes(new))
            await eventually(lambda: new in [spec["token"] for spec in plane.api.seen])
            assert len(plane.api.seen) <= 5  # four of theirs
        assert await coming == WEB


async def test_a_token_is_reviewed_once_however_many_calls_bring_it():
    good = jwt(600)
    async with known() as plane:
        plane.knows(good)
        with plane.api.hanging():
            coming = [asyncio.create_task(plane.comes(good)) for _ in range(50)]
            await eventually(lambda: plane.api.seen)
        assert await asyncio.gather(*coming) == [WEB] * 50
        assert len(plane.api.seen) == 1


async def test_a_call_that_is_gone_ends_its_review_but_not_that_of_others():
    good, lone = jwt(600, "good"), jwt(600, "lone")
    async with known() as plane:
        plane.knows(good, lone)
        with plane.api.hanging():
            gone, stays = (asyncio.create_task(plane.comes(good)) for _ in range(2))
            alone = asyncio.create_task(plane.comes(lone))
            await eventually(lambda: len(plane.api.seen) == 2)
            for task in (gone, alone):
                task.cancel()
            await asyncio.gather(gone, alone, return_exceptions=True)
            back = asyncio.create_task(plane.comes(lone))
            await eventually(lambda: len(plane.api.seen) == 3)
        assert await stays == WEB
        assert await back == WEB


async def test_strangers_who_are_gone_leave_their_places_at_once():
    async with known() as plane:
        with plane.api.hanging():
            gone = plane.strangers(4)
            await eventually(lambda: len(plane.api.seen) == 4)
            for task in gone:
                task.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            plane.strangers(5)
            await eventually(lambda: len(plane.api.seen) == 8)


@pytest.mark.parametrize(
    ("limits", "others"),
    [
        ({"pending_per_address": 3}, {"10.0.0.1": "unavailable"}),
        ({"pending_streams": 3}, {"10.0.0.1": "pending"}),
    ],
)
async def test_waiting_calls_are_bounded_and_those_of_an_address_too(limits, others):
    async with known(**limits) as plane:
        with plane.api.hanging():
            waiting = plane.strangers(3)
            await eventually(lambda: len(plane.api.seen) == 3)
            assert await plane.comes("one more", "10.9.9.9") == "pending"
            plane.api.status = 500
            for address, reason in others.items():
                coming = asyncio.create_task(plane.comes("another", address))
                await eventually(lambda c=coming: c.done() or len(plane.api.seen) == 4)
                assert coming.done() == (reason == "pending")
        assert await coming == reason
        assert await asyncio.gather(*waiting) == ["unavailable"] * 3
        plane.api.status = 201
        assert await plane.comes("one more", "10.9.9.9") == "refused"


@pytest.mark.parametrize("how", ["answers 503", "answers 403", "hangs", "is full of strangers"])
async def test_who_was_good_stays_good_until_the_token_s_end_while_the_api_server(how):
    good, late = jwt(600), jwt(600, "late")
    async with known(pending_streams=3) as plane:
        ends = (await plane_ends(plane, good)).expires_at
        plane.clock.ahead_s += KEEP_S
        with contextlib.ExitStack() as away:
            if how.startswith("answers"):
                plane.api.status = int(how.split()[1])
            else:
                away.enter_context(plane.api.hanging())
            if how == "is full of strangers":
                plane.strangers(3)
                await eventually(lambda: len(plane.api.seen) == 4)
            assert await plane.comes(good) == WEB
            if how != "hangs":
                assert await plane.comes(late) in {"unavailable", "pending"}
            plane.clock.ahead_s = ends
            if how != "hangs":
                assert await plane.comes(good) in {"unavailable", "pending"}


async def plane_ends(plane, token):
    plane.knows(token)
    return await plane.reviews.identify(Call(token))


async def test_a_revoked_token_is_refused_as_soon_as_the_api_server_answers_again():
    good = jwt(600)
    async with known() as plane:
        plane.knows(good)
        assert await plane.comes(good) == WEB
        plane.clock.ahead_s += KEEP_S
        plane.api.known.clear()
        with plane.api.hanging():
            assert await plane.comes(good) == WEB
        await eventually(lambda: len(plane.api.seen) == 2)
        async with asyncio.timeout(5):
            while await plane.comes(good) == WEB:
                pass
        assert await plane.comes(good) == "refused"
        assert len(plane.api.seen) == 2  # it was asked to the end, though nobody waited
        plane.api.status = 503
        plane.clock.ahead_s += KEEP_S
        assert await plane.comes(good) == "unavailable"


async def test_a_revoked_token_is_asked_about_though_strangers_of_its_address_fill_all_places():
    good = jwt(600)
    async with known(pending_per_address=3) as plane:
        plane.knows(good)
        assert await plane.comes(good) == WEB
        plane.clock.ahead_s += KEEP_S
        plane.api.known.clear()
        with plane.api.hanging():
            strangers = plane.strangers(3, "10.0.0.1")
            await eventually(lambda: len(plane.api.seen) == 4)
            assert await plane.comes(good) == WEB
            await eventually(lambda: [spec["token"] for spec in plane.api.seen].count(good) == 2)
        assert await asyncio.gather(*strangers) == ["refused"] * 3
        assert await plane.comes(good) == "refused"


async def test_an_answer_of_an_api_server_that_is_no_text_is_none():
    good = jwt(600)
    async with known() as plane:
        plane.knows(good)
        assert await plane.comes(good) == WEB
        plane.clock.ahead_s += KEEP_S
        plane.api.body = b'{"status": {"error": "\xff"}}'
        assert await plane.comes(good) == WEB
        assert await plane.comes("another") == "unavailable"
