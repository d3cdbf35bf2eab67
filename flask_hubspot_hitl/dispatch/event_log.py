"""Tell in one log line what became of an event: it is through, put off, or given up.

Ids, and nothing that was said. The host's name of a conversation is left out: it may be a telephone number, and a log
is erased by nobody (docs/rules.rst I2).
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import HITLError
from ..ledger import Event, Transaction
from ..metrics.logs import ROOT, Pairs
from .tasks import Again, Dead, Done, Outcome, Retry

logger = logging.getLogger(f"{ROOT}.events")
"""By this name a host turns the lines on and off; at INFO there is one for every event."""

_THROUGH = "Event %d (%s) is through"
_PUT_OFF = "Event %d (%s) is put off: %s"
_GIVEN_UP = "Event %d (%s) is given up: %s. Its lane goes on; see 'flask hubspot-hitl dead show' and 'dead retry'"


@dataclass(slots=True)
class Ended:
    """Hold how a run ended, as it was stored."""

    outcome: Outcome
    due_at: int | None = None
    """Epoch ms of the next run, when there is one."""
    handoff_id: str | None = None


def level_of(outcome: Outcome) -> int:
    """Return the level of an outcome's line; NOTSET: it has none, because nothing has ended and nothing is amiss."""
    if isinstance(outcome, Again) or (isinstance(outcome, Retry) and outcome.is_planned):
        return logging.NOTSET
    if isinstance(outcome, Done):
        return logging.INFO
    return logging.WARNING if isinstance(outcome, Retry) else logging.ERROR


def handoff_of(tx: Transaction, event: Event, outcome: Outcome) -> str | None:
    """Return the id of an event's handoff; it is looked up only if it is not known, and there will be a line."""
    if event.handoff_id is not None:
        return event.handoff_id
    level = level_of(outcome)
    if level == logging.NOTSET or not logger.isEnabledFor(level):
        return None
    if event.portal_id is None or event.thread_id is None:
        return None
    thread = (event.portal_id, event.thread_id)
    return tx.records.handoffs_of_threads([thread]).get(thread)


def tell(event: Event, ended: Ended, *, attempt: int, began: float | None = None) -> None:
    """Write the line; called once what it tells is committed.

    :param attempt: which run in a row this was, from 1.
    :param began: when the run began, in seconds of the monotonic clock; None: it had not.
    """
    outcome = ended.outcome
    level = level_of(outcome)
    if level == logging.NOTSET or not logger.isEnabledFor(level):
        return
    error = outcome.error if isinstance(outcome, Retry | Dead) else None
    fields: dict[str, Any] = {
        "event_id": event.id,
        "topic": event.topic,
        "portal_id": event.portal_id,
        "thread_id": event.thread_id,
        "handoff_id": ended.handoff_id,
        "attempt": (outcome.attempt if isinstance(outcome, Retry) else None) or attempt,
        "duration_ms": None if began is None else round((time.monotonic() - began) * 1000),
        "correlation_id": event.correlation_id,
        "code": None if error is None else _code(error, outcome.cause if isinstance(outcome, Retry | Dead) else None),
        "due_at": None if ended.due_at is None else _time(ended.due_at),
    }
    pairs = Pairs({name: value for name, value in fields.items() if value is not None})
    words, args = (_THROUGH, ()) if error is None else (_PUT_OFF if level == logging.WARNING else _GIVEN_UP, (error,))
    logger.log(level, f"{words}  %s", event.id, event.topic, *args, pairs, extra=pairs)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _code(error: str, cause: HITLError | None) -> str | None:
    """Return what went wrong in a word or two: the exception, and HubSpot's status and category."""
    if cause is None:
        return error if re.fullmatch(r"\w+", error) else None
    more = [getattr(cause, name, None) for name in ("status", "category")]
    return " ".join([type(cause).__name__, *(str(one) for one in more if one is not None)])
