"""Log lines: how they look, and how text of strangers gets into them safely."""

from __future__ import annotations

import json
import logging

from trimtab.control.log_lines import LogLines

MAX_TEXT = 256
LOGGERS = ("trimtab", "asyncio", "aiohttp", "grpc")


def printable(text: str, *, limit: int = MAX_TEXT, keep_tail: bool = False) -> str:
    """A client's text for a log line: control characters escaped, shortened to ``limit``.

    ``keep_tail`` keeps the end rather than the beginning: Envoy's NACKs quote the whole resource
    and say the reason last.
    """
    if len(text) > limit:
        text = f"...{text[3 - limit :]}" if keep_tail else f"{text[: limit - 3]}..."
    return _escaped(text)


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """One record's message is one line, whatever got into it on the way."""
        record.message = _escaped(record.message)
        return super().formatMessage(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def announcement(text: str, log_format: str) -> str:
    """A line that is written whatever the level of the log is, in the log's form."""
    if log_format != "json":
        return text
    said = {"name": LOGGERS[0], "levelno": logging.INFO, "levelname": "INFO", "msg": text}
    return _Json().format(logging.makeLogRecord(said))


class _Aside(logging.Handler):
    """Makes each record a line at once, and leaves writing it to another thread."""

    def __init__(self, lines: LogLines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as every handler of logging does: a bad line is told, not raised
            self.handleError(record)
        else:
            self._lines.put(line)


def set_up_logs(level: str, log_format: str, lines: LogLines) -> None:
    """Send log lines to ``lines``, as ``text`` or ``json``.

    This package's, of the given level and above; of the libraries that the control plane runs on,
    warnings and errors.
    """
    handler = _Aside(lines)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    logging.getLogger(LOGGERS[0]).setLevel(level.upper())
