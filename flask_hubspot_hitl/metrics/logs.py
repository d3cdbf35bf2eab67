"""Write log lines with fields: ``name=value`` at the end of a line of text, or one JSON object a line.

Imports nothing of ours.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

ROOT = "flask_hubspot_hitl"
"""The logger above all of ours."""
_PLAIN = re.compile(r"[\w.:/+@-]{1,200}", re.ASCII)


class Pairs(dict[str, Any]):
    """Hold a line's fields: the last argument of a log call, which is given them as ``extra``, too."""

    def __str__(self) -> str:
        return " ".join(f"{name}={_shown(value)}" for name, value in self.items())


def _shown(value: object) -> str:
    """Return a value without a space, or in double quotes; never with a line break."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


class JSONFormatter(logging.Formatter):
    """Format a record as one JSON object on one line, for a handler of the host's own.

    Every object has ``time`` (ISO 8601, UTC), ``level``, ``logger`` and ``message``; ``exception`` when there was one,
    and the fields of the line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record.

        :param record: of any logger.
        :returns: JSON in ASCII, without a line break.
        """
        fields = record.args[-1] if isinstance(record.args, tuple) and record.args else None
        message = record.getMessage()
        if isinstance(fields, Pairs):
            message = message.removesuffix(str(fields)).rstrip()
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        if isinstance(fields, Pairs):
            facts |= fields
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts, default=str)


class _Stderr(logging.StreamHandler[TextIO]):
    """Write to what standard error is at the time of the line, which a server may have replaced."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(JSONFormatter())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # a plain attribute there, set once
        return sys.stderr


def to_json() -> None:
    """Have our loggers write JSON to standard error, and nowhere else: no line is there twice.

    Nothing is done when the host has given the logger ``flask_hubspot_hitl`` a handler of its own, or when it was done
    for another app of this process. The level is INFO, unless somebody has set one.
    """
    ours = logging.getLogger(ROOT)
    if ours.handlers:
        return
    ours.addHandler(_Stderr())
    ours.propagate = False
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)
