"""Note since when it is the user's turn, and for how long the user may be silent (docs/rules.rst K5).

What follows from silence is done by ``timeouts``.
"""

from __future__ import annotations

from ..config import PREFIX, Settings, idle_trouble
from ..ledger import HandoffRecord, Topic, Transaction
from . import rules
from .states import ToIdle

DETAIL = "the user was silent"
"""The detail of a handoff that ended for it."""

Limits = tuple[int | None, int | None]
"""Milliseconds of silence until the host is warned, and until the handoff ends; None: never."""


def limits(settings: Settings, warning: float | None, timeout: float | None) -> Limits:
    """Return how long the user of a new handoff may be silent.

    :param warning: seconds; None: as the setting says; 0: never, and the handoff does not end for it either.
    :param timeout: seconds; None: as the setting says; 0: never.
    :raises ValueError: when they don't go together, or are no durations.
    :raises TypeError: when one is no number.
    """
    asked: tuple[object, ...] = (warning, timeout)
    if any(isinstance(one, bool) or not isinstance(one, int | float | None) for one in asked):
        raise TypeError("idle_warning and idle_timeout must be numbers of seconds, or None")
    first = settings.idle_warning if warning is None else float(warning)
    last = settings.idle_timeout if timeout is None else float(timeout)
    if warning == 0 and timeout is None:
        last = 0.0
    if trouble := idle_trouble(first, last):
        raise ValueError(f"idle_timeout {trouble} (without one of them it is {PREFIX}IDLE_WARNING or _TIMEOUT)")
    return int(first * 1000) or None, int(last * 1000) or None


def begin(tx: Transaction, record: HandoffRecord, *, now: int) -> None:
    """Note that it is the user's turn, because an agent has written, and set the timer; the caller stores the record.

    Each such timer has a lane of its own, which nobody else can hold: that of the agent's thread is held already.
    """
    if record.idle_warning is None or not record.handoff.is_open:
        return
    record.silent_since = now
    told = ToIdle(since=now)
    rules.start_timer(tx, record.handoff, Topic.IDLE, str(now), told=told, due_at=now + record.idle_warning, now=now)


def lasts(record: HandoffRecord | None, handoff_id: str, since: int) -> bool:
    """Return True while the user is silent since this moment (epoch ms), and the handoff is open."""
    if record is None or not record.handoff.is_open:
        return False
    return (record.handoff.id, record.silent_since) == (handoff_id, since)
