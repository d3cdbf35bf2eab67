"""Log what may happen again and again at most once a minute. Imports nothing of ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

SECONDS = 60.0
"""Seconds during which a line that was logged is not logged again."""


class Seldom:
    """Log each kind of line at most once a minute. Each app has its own, so that no app silences another's.

    :param now: monotonic time, in seconds; for tests.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next: dict[tuple[str, str], float] = {}

    def __call__(self, logger: logging.Logger, level: int, text: str, *what: object, key: str = "") -> None:
        """Log a line, unless one of its kind was logged within the last minute.

        :param logger: where to.
        :param level: as in ``logging``.
        :param text: the line, with ``%s`` for each of ``what``. Lines of one text are of one kind.
        :param key: makes further kinds of one text, such as one for each reason.
        """
        now, kind = self._now(), (text, key)
        if now >= self._next.get(kind, now):
            self._next[kind] = now + SECONDS
            logger.log(level, text, *what)
