"""The daemon's log on standard error: lines for people, or one JSON object a line for programs.

A JSON line has `time` (RFC 3339, UTC; the device's clock, a claim), `level`, `logger`, `message`, and `exception` where
there is one. Messages are the same in both forms, and in English.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
_NOISY = ("asyncio", "zeroconf", "aiosqlite", "PIL")


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_log(log_format: str, *, verbose: bool) -> None:
    """Have this process log to standard error in one of `FORMATS`."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == JSON:
        handler.setFormatter(JsonLines())
    else:
        # systemd's journal keeps the time itself.
        journal = "JOURNAL_STREAM" in os.environ
        line = "%(levelname)s %(name)s: %(message)s" if journal else "%(asctime)s %(levelname)s %(message)s"
        handler.setFormatter(logging.Formatter(line))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
