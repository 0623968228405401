"""Interrupts the test itself, as Ctrl-C does."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def interrupted(once):
    """What runs within in the main thread gets SIGINT after ``once`` has returned, until it ends."""
    over = threading.Event()

    def interrupt():
        once()
        while not over.wait(0.5):  # one that comes before a wait is not lost: it ends the test
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    # A run that was started in a shell's background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupter.start()
    try:
        yield
    finally:
        over.set()
        interrupter.join()
        signal.signal(signal.SIGINT, before)
