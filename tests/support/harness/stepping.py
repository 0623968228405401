"""Does something between any two lines of what runs: what signals, and the collector of garbage, do now and then."""

import contextlib
import sys


@contextlib.contextmanager
def at_each_line(act, *modules, only=None):
    """What runs within, in this thread, is interrupted by ``act`` at each line of these modules, once.

    Args:
        act: what comes in between.
        modules: whose lines.
        only: the number of the one line that is interrupted, from 0; None: each is.

    Yields a list with the name of each function that was interrupted, once for each line.
    """
    files, interrupted, seen = {module.__file__ for module in modules}, [], set()

    def traced(frame, event, _value):
        if frame.f_code.co_filename not in files:
            return None
        place = (frame.f_code, frame.f_lineno)
        if event == "line" and place not in seen:
            seen.add(place)
            if only in {None, len(seen) - 1}:
                interrupted.append(frame.f_code.co_name)
                sys.settrace(None)  # what is done now is not interrupted itself
                act()
                sys.settrace(traced)
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        yield interrupted
    finally:
        sys.settrace(before)


def at_one_line_after_the_other(run, *modules):
    """Runs again and again, interrupted at one line each time, until there is no line left; how many there were.

    Args:
        run: is given what to put around the interrupted part: a function that takes what comes in between and
            gives a context.
        modules: whose lines.
    """
    number = 0
    while _runs_interrupted(run, number, modules):
        number += 1
    return number


def _runs_interrupted(run, number, modules):
    inside = []

    @contextlib.contextmanager
    def interrupted(act):
        with at_each_line(act, *modules, only=number) as found:
            yield
        inside.extend(found)

    run(interrupted)
    return bool(inside)
