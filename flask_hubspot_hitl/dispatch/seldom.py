"""Logs what may happen again and again at most once a minute. Imports nothing of ours."""

from __future__ import annotations

import logging
import time

SECONDS = 60.0


class Seldom:
    """Log each text at most once a minute. Each app has its own, so that no app silences another's.

    :param logger: where to.
    :param level: as in ``logging``.
    """

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self._logger = logger
        self._level = level
        self._next: dict[str, float] = {}

    def __call__(self, text: str, what: object) -> None:
        """Log a text with ``%s`` in it for ``what``."""
        now = time.monotonic()
        if now >= self._next.get(text, 0.0):
            self._next[text] = now + SECONDS
            self._logger.log(self._level, text, what)
