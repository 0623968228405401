"""How long the reflector waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations [s] and sizes; the defaults are for production.

    Attributes:
        page_size: objects per page of a list (client-go's pager has 500 too).
        connect_s: for a connection, TLS included.
        list_s: for one page; also for a watch to begin.
        watch_s: the API server is asked to end a watch after so long, drawn anew each time.
        idle_extra_s: a watch that is silent for so much longer than that is dead.
        bookmark_idle_s: and one that has brought a bookmark after so long a silence: the API server
            sends one about every minute.
        backoff_s: the longest first delay after a failure, and the longest of all.
        retry_after_max_s: a longer ``Retry-After`` is cut to this.
        healthy_s: a watch that lived this long makes the back-off begin anew.
        short_watch_s: a watch that ends sooner without an event has ended for no good reason.
        settle_s: a ready endpoint that vanishes without having been terminating is kept for so long.
        hold_s: what a list lacks stays for so long, if much went with it (``withholding``); 0 is not at all.
        check_s: how often what is known is compared with a list, on average; 0 is never.
    """

    page_size: int = 500
    connect_s: float = 10.0
    list_s: float = 60.0
    watch_s: tuple[float, float] = (240.0, 480.0)
    idle_extra_s: float = 30.0
    bookmark_idle_s: float = 150.0
    backoff_s: tuple[float, float] = (0.1, 30.0)
    retry_after_max_s: float = 120.0
    healthy_s: float = 5.0
    short_watch_s: float = 1.0
    settle_s: float = 0.2
    hold_s: float = 120.0
    check_s: float = 600.0
