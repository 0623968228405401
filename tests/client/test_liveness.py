"""Questions for a sign of life over gRPC, by themselves."""

import asyncio
import socket

import grpc
import grpc.aio
import pytest

from harness.waiting import Deadline, eventually, pause
from trimtab.client.liveness import AioQuestions, SyncQuestions

pytestmark = pytest.mark.processes


@pytest.fixture
def mute():
    """Where connections come about and nobody says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_an_endpoint_whose_connection_is_replaced_under_a_question_is_asked_again_on_a_loop(
    mute,
):
    questions = AioQuestions(asyncio.get_running_loop())
    channel = grpc.aio.insecure_channel(mute)
    heard = []
    again = asyncio.Event()
    questions.ask(channel, lambda: heard.append("alive"), again.set)
    while channel.get_state() is grpc.ChannelConnectivity.IDLE:  # the question has left
        await asyncio.to_thread(pause)
    await channel.close()
    async with asyncio.timeout(10):
        await again.wait()
    assert heard == []


async def test_who_asks_no_more_is_not_told_to_ask_again(mute):
    loop = asyncio.get_running_loop()
    questions = AioQuestions(loop)
    channel = grpc.aio.insecure_channel(mute)
    heard = []
    questions.ask(channel, lambda: heard.append("alive"), lambda: heard.append("again"))
    (task,) = questions._tasks.values()
    questions.close()
    deadline = Deadline(20)
    while questions._tasks:
        assert not deadline.passed
        await asyncio.to_thread(pause)
    assert task.cancelled()
    assert heard == []
    assert not [timer for timer in loop._scheduled if not timer.cancelled()]
    await channel.close()


def test_an_endpoint_whose_connection_is_replaced_under_a_question_is_asked_again_in_threads(mute):
    questions = SyncQuestions()
    channel = grpc.insecure_channel(mute)
    heard = []
    questions.ask(channel, lambda: heard.append("alive"), lambda: heard.append("again"))
    channel.close()
    eventually(lambda: heard, within=20, what="somebody is to ask again")
    assert heard == ["again"]
