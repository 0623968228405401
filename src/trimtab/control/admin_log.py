"""What the log says of connections to the admin port that don't speak HTTP/1.1."""

from __future__ import annotations

import logging

from aiohttp.http import HttpProcessingError


def one_line(record: logging.LogRecord) -> bool:
    """A filter: a request that can't be read is no fault of this program, and gets no stack trace.

    The usual one is a gRPC client that was given the admin port in place of the xDS port.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg = f"{record.getMessage()}: this is no HTTP/1.1. Clients of xDS connect to the port of --xds"
        record.args, record.exc_info = None, None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def http_log() -> logging.Logger:
    """The logger for the admin port's connections."""
    log = logging.getLogger(__name__)
    log.addFilter(one_line)  # a second time changes nothing
    return log
