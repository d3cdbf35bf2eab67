"""Run the timers of a handoff: for an agent who does not come, and for a user who does not write."""

from __future__ import annotations

import logging

from ..dispatch.tasks import Again, Done, Outcome, Retry, putting
from ..domain import CloseReason, HandoffState
from ..errors import HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot.events import Kind
from ..hubspot.fields import PERSON
from ..ledger import Event, HandoffRecord, Lease, NewEvent, Topic, Transaction
from ..portals.clients import Services
from . import rules, silence, steps
from .emission import Emitter, SignalTask
from .history import History
from .states import TimeoutState, ToIdle, Told

logger = logging.getLogger(__name__)


class TimerTask(SignalTask):
    """Ask HubSpot what no webhook told before anything follows from a time that has passed."""

    def __init__(self, emitter: Emitter, services: Services, history: History) -> None:
        super().__init__(services.ledger, emitter)
        self._history = history
        self._counts = services.settings.automation_as_operator

    def is_decisive(self, missed: NewEvent) -> bool:
        """Return True for what makes the timer needless."""
        raise NotImplementedError

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Send the signal, or find out whether there is one to send."""
        state = event.state(TimeoutState)
        if state.record is None or state.plan is not None:
            return self._emitter.run(event, lease)
        return self._look(event, state, state.record, now)

    def _look(self, event: Event, state: TimeoutState, record: HandoffRecord, now: int) -> Outcome:
        missed: list[NewEvent] = []
        try:
            missed = self._history.of_handoff(record)
        except HubSpotUnavailable as error:
            if (at_ms := state.next_look(now)) is not None:
                return Retry(str(error), at_ms=at_ms, cause=error)
        except (HubSpotRejected, NotConfigured):
            logger.info(
                "HubSpot could not be asked what has become of a handoff (event %d); its timer goes by what is stored",
                event.id,
            )
        state.taken = any(self.is_decisive(one) for one in missed)
        return Again(putting(missed, now))


class AssignmentTimeoutTask(TimerTask):
    """Signal ``assignment_timed_out`` when no agent took the conversation in time."""

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Decide to signal once, and only while the handoff is still waiting for its first operator."""
        state = event.state(TimeoutState)
        if state.plan is None:
            record = tx.records.get(str(event.handoff_id), lock=True)
            waits = record is not None and record.handoff.state == HandoffState.WAITING
            if record is None or not waits or record.taken_at is not None or state.taken:
                state.plan = []
            elif state.taken is None:
                state.record = record
                return
            else:
                state.plan = [steps.step("assignment_timed_out", record.handoff)]
            tx.queue.save(event)
        self._emitter.begin(tx, event)

    def is_decisive(self, missed: NewEvent) -> bool:
        """Return True when an agent took the conversation."""
        return is_taken(missed, automation=self._counts)


def is_taken(missed: NewEvent, *, automation: bool) -> bool:
    """Return True for the event of somebody taking the conversation.

    :param automation: machines count, too.
    """
    value = Told.from_json(missed.payload).value
    return missed.topic == Kind.ASSIGNED and value is not None and (automation or value.startswith(PERSON))


def missed_of(history: History, record: HandoffRecord) -> list[NewEvent]:
    """Return what no webhook has told of a handoff; nothing when HubSpot can't be asked."""
    try:
        return history.of_handoff(record)
    except (HubSpotRejected, HubSpotUnavailable, NotConfigured):
        logger.info(
            "HubSpot could not be asked what has become of handoff %s; its timer goes by what is stored",
            record.handoff.id,
        )
        return []


class IdleTask(TimerTask):
    """Signal ``idle_warning`` when the user is silent, and end the handoff later; each has an event of its own."""

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Decide while the user is silent; whoever has written since has another timer, or none."""
        state, told = event.state(TimeoutState), ToIdle.from_json(event.payload)
        if state.plan is None:
            record = tx.records.get(str(event.handoff_id), lock=True)
            if record is None or not silence.lasts(record, str(event.handoff_id), told.since) or state.taken:
                state.plan = []
            elif told.ends_at is None:
                ends_at = _ends_at(record, told.since, now)
                facts = {"ends_at": ends_at, "since": told.since}
                state.plan = [steps.step("idle_warning", record.handoff, facts=facts)]
            else:
                state.record = record
                return
            tx.queue.save(event)
        self._emitter.begin(tx, event)

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Warn, and set the timer of the end once that was accepted; or look at the thread, and end it."""
        state, told = event.state(TimeoutState), ToIdle.from_json(event.payload)
        if state.plan is None and state.taken is False:
            with self._ledger.write() as tx:  # not with this lane locked, which comes behind those that are written to
                _end(tx, event, told, now)
            return Done()
        outcome, plan = super().call(event, lease, now), state.plan
        if isinstance(outcome, Done) and plan and plan[0].facts["ends_at"] is not None:
            ends_at: int = plan[0].facts["ends_at"]
            return Done(lambda tx: _set_end(tx, event, told.since, ends_at, now))
        return outcome

    def is_decisive(self, missed: NewEvent) -> bool:
        """Return True when an agent has written, closed the thread or given it up."""
        value = Told.from_json(missed.payload).value
        gave_up = missed.topic == Kind.ASSIGNED and value is None
        return (
            gave_up or missed.topic in (Kind.MESSAGE, Kind.DELETED) or (missed.topic, value) == (Kind.STATUS, "CLOSED")
        )


def _ends_at(record: HandoffRecord, since: int, now: int) -> int | None:
    """Return when a silent user's handoff ends, epoch ms; who is warned late has as long as who is warned in time."""
    if record.idle_timeout is None or record.idle_warning is None:
        return None
    return max(since + record.idle_timeout, now + record.idle_timeout - record.idle_warning)


def _set_end(tx: Transaction, event: Event, since: int, ends_at: int, now: int) -> None:
    """Set the timer of the end, once the host has taken the warning: later than told if that took long."""
    record = tx.records.get(str(event.handoff_id))
    if record is None:
        return
    due_at = max(ends_at, _ends_at(record, since, now) or 0)
    told = ToIdle(since=since, ends_at=due_at)
    rules.start_timer(tx, record.handoff, Topic.IDLE, str(since), "end", told=told, due_at=due_at, now=now)


def _end(tx: Transaction, event: Event, told: ToIdle, now: int) -> None:
    """End the handoff, if the user is silent still."""
    handoff_id = str(event.handoff_id)
    record = tx.records.get(handoff_id)
    if record is not None:
        rules.stop(
            tx,
            record.handoff.conversation_id,
            reason=CloseReason.TIMEOUT,
            detail=silence.DETAIL,
            only_if=lambda one: silence.lasts(one, handoff_id, told.since),
            now=now,
        )
