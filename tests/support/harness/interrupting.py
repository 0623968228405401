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


@contextlib.contextmanager
def signal_that_wakes_nobody(number, handler):
    """The main thread, which waits within, gets a signal as if just before: it hears of it once it goes on.

    Yields a list, which is not empty if it had to be woken. ``handler`` is what handles the signal outside; where
    that is to ignore it, what waits brings one.
    """
    over, rescued = threading.Event(), []

    def send():
        while signal.getsignal(number) is signal.SIG_IGN and not over.wait(0.01):
            pass
        over.wait(0.3)  # until the wait is under way
        signal.pthread_kill(threading.get_ident(), number)  # the system wakes this thread, if any
        if not over.wait(20):
            rescued.append(True)
            signal.pthread_kill(threading.main_thread().ident, number)

    sender = threading.Thread(target=send)
    before = signal.signal(number, handler)
    sender.start()
    try:
        yield rescued
    finally:
        over.set()
        sender.join()
        signal.signal(number, before)
