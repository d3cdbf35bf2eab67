"""How long a transaction may wait for others: for locks, for a connection, for the server's answers, in all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LONGEST = 4.0
"""Seconds that any transaction may wait."""

_ends_at: ContextVar[float] = ContextVar("hitl_patience_ends", default=float("inf"))


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """All transactions in this block together wait at most ``seconds``; what isn't there by then is unavailable.

    Blocks nest; the earlier end wins.
    """
    reset = _ends_at.set(min(_ends_at.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _ends_at.reset(reset)


def remaining() -> float:
    """Seconds that are left to wait, 0 when there are none; infinity outside of a block."""
    return max(_ends_at.get() - time.monotonic(), 0.0)
