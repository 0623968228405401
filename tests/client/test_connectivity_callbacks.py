"""Who wants to hear of a channel's connectivity hears of it, in order, whatever goes wrong in between."""

import queue
import threading

import grpc

from trimtab.client.connectivity_callbacks import ConnectivityCallbacks

IDLE = grpc.ChannelConnectivity.IDLE
READY = grpc.ChannelConnectivity.READY
FAILING = grpc.ChannelConnectivity.TRANSIENT_FAILURE
WITHIN_S = 20


def refuse(_thread):
    raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_started_nobody_fails_and_the_next_change_is_told(
    monkeypatch, caplog
):
    heard = queue.SimpleQueue()
    callbacks = ConnectivityCallbacks(IDLE)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        callbacks.add(heard.put)
        callbacks.publish(READY)
        assert heard.empty()
    assert "can't start new thread" in caplog.text
    callbacks.publish(FAILING)
    assert heard.get(timeout=WITHIN_S) is FAILING
    callbacks.publish(READY)
    assert heard.get(timeout=WITHIN_S) is READY


def test_a_callback_that_raises_hears_the_next_change_and_so_do_the_others():
    heard = queue.SimpleQueue()

    def broken(state):
        heard.put(("broken", state))
        raise ValueError(state)

    callbacks = ConnectivityCallbacks(IDLE)
    callbacks.add(broken)
    callbacks.add(lambda state: heard.put(("other", state)))
    assert [heard.get(timeout=WITHIN_S) for _ in range(2)] == [("broken", IDLE), ("other", IDLE)]
    callbacks.publish(READY)
    assert [heard.get(timeout=WITHIN_S) for _ in range(2)] == [("broken", READY), ("other", READY)]
