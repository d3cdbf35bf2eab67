"""The task that ends the wait for an agent who does not come."""

from __future__ import annotations

import logging

from ..dispatch.tasks import Again, Outcome, Retry, putting
from ..domain import HandoffState
from ..errors import HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot.events import Kind
from ..ledger import Event, Lease, NewEvent, Transaction
from ..portals.clients import Services
from . import steps
from .emission import Emitter
from .history import History

logger = logging.getLogger(__name__)


LOOK_MS = 30_000
"""For this long the end of an assignment's time waits for HubSpot to be readable."""


class AssignmentTimeoutTask:
    """Nobody took the conversation in time."""

    def __init__(self, emitter: Emitter, services: Services, history: History) -> None:
        self._emitter = emitter
        self._ledger = services.ledger
        self._history = history

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Signalled once, and only while the handoff is still waiting for its first operator."""
        if "plan" not in event.progress:
            record = tx.records.get(str(event.handoff_id), lock=True)
            waits = record is not None and record.handoff.state == HandoffState.WAITING
            never = record is not None and record.assigned_mark is None and not event.progress.get("taken")
            if record and waits and never and "taken" not in event.progress:
                event.scratch["record"] = record
                return
            event.progress["plan"] = (
                [steps.step("assignment_timed_out", record.handoff)] if record and waits and never else []
            )
            tx.queue.save(event)
        self._emitter.begin(tx, event)

    def run(self, event: Event, lease: Lease) -> Outcome:
        return self._emitter.run(event, lease) if "plan" in event.progress else self._look(event)

    def _look(self, event: Event) -> Outcome:
        """Somebody may have taken it while we were down: ask HubSpot before saying that nobody did."""
        now = self._ledger.now_ms()
        since = event.progress.setdefault("waiting_since", now)
        missed: list[NewEvent] = []
        try:
            missed = self._history.of_handoff(event.scratch["record"])
        except HubSpotUnavailable as error:
            if now - since < LOOK_MS:
                return Retry(str(error), at_ms=min(now + 5_000, since + LOOK_MS))
        except (HubSpotRejected, NotConfigured):
            logger.info("The thread of a handoff that nobody took can't be read (event %d)", event.id)
        event.progress["taken"] = any(one.topic == Kind.ASSIGNED and one.payload["value"] for one in missed)
        return Again(putting(missed, now))

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""
