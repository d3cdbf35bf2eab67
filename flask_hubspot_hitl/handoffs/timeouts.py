"""Run the timer that ends the wait for an agent who does not come."""

from __future__ import annotations

import logging

from ..dispatch.tasks import Again, Outcome, Retry, putting
from ..domain import HandoffState
from ..errors import HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot.events import Kind
from ..ledger import Event, HandoffRecord, Lease, NewEvent, Transaction
from ..portals.clients import Services
from . import steps
from .emission import Emitter, SignalTask
from .history import History
from .states import TimeoutState, Told

logger = logging.getLogger(__name__)


class AssignmentTimeoutTask(SignalTask):
    """Signal ``assignment_timed_out`` when no agent took the conversation in time."""

    def __init__(self, emitter: Emitter, services: Services, history: History) -> None:
        super().__init__(services.ledger, emitter)
        self._history = history

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Decide to signal once, and only while the handoff is still waiting for its first operator."""
        state = event.state(TimeoutState)
        if state.plan is None:
            record = tx.records.get(str(event.handoff_id), lock=True)
            waits = record is not None and record.handoff.state == HandoffState.WAITING
            if record is None or not waits or record.assigned_mark is not None or state.taken:
                state.plan = []
            elif state.taken is None:
                state.record = record
                return
            else:
                state.plan = [steps.step("assignment_timed_out", record.handoff)]
            tx.queue.save(event)
        self._emitter.begin(tx, event)

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Send the signal, or find out whether there is one to send."""
        state = event.state(TimeoutState)
        if state.record is None or state.plan is not None:
            return self._emitter.run(event, lease)
        return self._look(event, state, state.record, now)

    def _look(self, event: Event, state: TimeoutState, record: HandoffRecord, now: int) -> Outcome:
        """Ask HubSpot whether an agent took the conversation while no dispatcher ran."""
        missed: list[NewEvent] = []
        try:
            missed = self._history.of_handoff(record)
        except HubSpotUnavailable as error:
            if (at_ms := state.next_look(now)) is not None:
                return Retry(str(error), at_ms=at_ms)
        except (HubSpotRejected, NotConfigured):
            logger.info(
                "HubSpot could not be asked whether an agent took the handoff (event %d); it counts as not taken, and "
                "assignment_timed_out follows",
                event.id,
            )
        state.taken = any(one.topic == Kind.ASSIGNED and Told.from_json(one.payload).value for one in missed)
        return Again(putting(missed, now))
