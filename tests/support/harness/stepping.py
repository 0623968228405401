"""Does something between any two lines of what runs: what signals, and the collector of garbage, do now and then."""

import contextlib
import sys


@contextlib.contextmanager
def at_each_line(act, *modules):
    """What runs within, in this thread, is interrupted by ``act`` at each line of these modules, once.

    Yields a list with the name of each function that was interrupted, once for each line.
    """
    files, interrupted, seen = {module.__file__ for module in modules}, [], set()

    def traced(frame, event, _value):
        if frame.f_code.co_filename not in files:
            return None
        place = (frame.f_code, frame.f_lineno)
        if event == "line" and place not in seen:
            seen.add(place)
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
