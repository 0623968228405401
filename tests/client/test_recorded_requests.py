"""What threads keep of a request that is a stream."""

import threading

from harness.waiting import eventually
from trimtab.client.recorded_requests import RecordedRequests


def sending(attempt):
    thread = threading.Thread(target=list, args=[attempt], daemon=True)
    thread.start()
    return thread


def test_the_thread_of_an_attempt_that_ended_does_not_wait_for_the_callers_iterator():
    let_go = threading.Event()

    def source():
        let_go.wait(20)
        yield b"a"

    requests = RecordedRequests(source(), 1000)
    reading = sending(requests.attempt())
    eventually(lambda: requests.recording._reading, within=20, what="one reads")
    waiting = sending(requests.attempt())
    eventually(lambda: requests._news._waiters, within=20, what="the next one waits for that")
    requests.recording.rewind()
    third = requests.attempt()
    waiting.join(10)
    assert not waiting.is_alive()
    let_go.set()
    reading.join(10)
    assert [kept.serialized(None) for kept in third] == [b"a"]
