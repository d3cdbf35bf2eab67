"""Erase what is kept of a person: for ``flask hubspot-hitl erase``, and when HubSpot has deleted a thread for privacy.

One transaction deletes the rows, empties the lanes and takes them away from who works in them: nothing waits for a
receiver that fails or hangs. What was accepted and not delivered is told without its content (docs/rules.rst I).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..clock import to_datetime
from ..dispatch.tasks import CallingTask, Done, Outcome, Retry, Task
from ..domain import Author, CloseReason, Handoff, HandoffState, Message, MessageStatus
from ..hubspot.events import Kind
from ..ledger import Bare, Belongings, Event, HandoffRecord, Lease, Ledger, NewEvent, Step, Topic, Transaction, lanes
from ..ledger.people import Undelivered, opening_mark, thread_mark
from ..ledger.plans import Decided, signal_event
from ..portals.clients import Services
from . import people, steps
from .history import History
from .states import Told, ToPublish

logger = logging.getLogger(__name__)

NOT_DELIVERED = "erased before it was delivered"
"""Why a message or an event was not delivered, for the host."""
REFUSED = "This chat was erased for privacy; your message was not delivered."
"""What the agent reads below a message that came too late."""
WIPE_AGAIN_MS = 10_000
"""Milliseconds after which the files are wiped again, when others have used them all the time."""
_TOLD_AGAIN = ("conversation_completed", "message_failed", "handoff_failed")
"""Signals that a host must not miss: their facts hold nothing of the person."""
_BRIDGE = lanes.Lane.BRIDGE.prefix


def erase(ledger: Ledger, found: Belongings, *, by: str, who: people.Who | None = None) -> dict[str, int]:
    """Delete a person's rows, and have the host told.

    :param found: what :func:`.people.find` returned; what was stored since is found again here.
    :param by: who wants it: ``command`` or ``hubspot``.
    :param who: for whom :func:`.people.find` looked; None for one handoff's rows.
    :returns: how many rows of each kind were deleted.
    """
    counts = None
    while counts is None:
        with ledger.write() as tx:
            counts = _erase(tx, found, by=by, who=who, now=ledger.now_ms())
    if any(counts.values()):
        logger.info("Erased what was kept of a person: %d row(s), asked for by %s", sum(counts.values()), by)
    return counts


def _erase(tx: Transaction, found: Belongings, *, by: str, who: people.Who | None, now: int) -> dict[str, int] | None:
    """Erase it; return None when more was stored before the lanes were locked, which has lanes of its own."""
    keys = tx.people.lanes_of(found)
    tx.queue.reserve(*keys, now=now)
    if who is not None and (people.find_newer(tx, who, found) or set(tx.people.lanes_of(found)) - set(keys)):
        return None
    locked = (tx.records.get(one, lock=True) for one in sorted(found.handoffs))
    records = {one.handoff.id: one for one in locked if one is not None}
    tx.people.look_again(found, keys)
    waiting = tx.people.undelivered(found)
    plans = {one.handoff.id: _ending(tx, one, waiting, now=now) for one in records.values()}
    rest = [_dead(one) for one in waiting if one.handoff_id not in records and _is_somebodys(one)]
    refusals = [one for each in waiting if (one := _refusal_of(tx, records, each)) is not None]
    counts = tx.people.delete(found, keys, now=now)
    for plan in filter(None, (*plans.values(), rest)):
        _put(tx, plan, now=now)
    conversations = sorted({one.handoff.conversation_id for one in records.values()})
    if by == "command" and any(counts.values()):
        conversations = sorted(found.conversations)
    if conversations:
        _put(tx, [Step(signal="person_erased", facts={"conversation_ids": conversations, "by": by})], now=now)
    tx.queue.put(refusals, now=now)
    if any(counts.values()):
        _put(tx, [], now=now)
    return counts


def _put(tx: Transaction, plan: steps.Plan, *, now: int) -> None:
    """Queue signals in a lane of their own: they wait for nothing, and nothing waits for them.

    Behind them the files are wiped: only then what the signals told is gone, too.
    """
    token = uuid.uuid4().hex
    lane = lanes.erasure(token)
    told = [signal_event(plan, key=f"erased:{token}", lane=lane, sort_at=0)] if plan else []
    wipe = NewEvent(dedupe_key=f"wipe:{token}", lane=lane, topic=Topic.WIPE, sort_at=1)
    tx.queue.put([*told, wipe], now=now)


# What is told of what was not delivered ----------------------------------------------------------------------


def _ending(tx: Transaction, record: HandoffRecord, waiting: Sequence[Undelivered], *, now: int) -> steps.Plan:
    """Return the signals of one handoff: what is not delivered any more, and its end."""
    mine = [one for one in waiting if one.handoff_id == record.handoff.id]
    handoff = record.handoff
    if handoff.thread_id is not None:
        mine += [one for one in waiting if one.handoff_id is None and one.thread_id == handoff.thread_id]
    ended = handoff
    if handoff.is_open:
        ended = replace(
            handoff, state=HandoffState.CLOSED, closed_at=to_datetime(now), reason=CloseReason.DELETED, detail=None
        )
    plan = [step for one in mine for step in _steps_of(tx, ended, one)]
    if handoff.is_open:
        plan.append(Step(signal="conversation_completed", bare=Bare.of(ended), reason=CloseReason.DELETED))
    return plan


def _steps_of(tx: Transaction, handoff: Handoff, one: Undelivered) -> Iterator[Step]:
    if one.topic == Topic.PUBLISH:
        yield _failed(handoff, tx.records.get_message(ToPublish.from_json(one.payload).row))
        return
    decided = Decided.from_json(one.progress).plan
    lost = False
    for step in (decided or [])[int(one.progress.get("step", 0)) :]:
        if step.signal == "message_failed" and step.message_row is not None:
            yield _failed(handoff, tx.records.get_message(step.message_row))
        elif step.signal in _TOLD_AGAIN:
            facts = {name: value for name, value in step.facts.items() if name == "error"}
            yield Step(signal=step.signal, bare=Bare.of(handoff), reason=step.reason, facts=facts)
        else:
            lost = True
    if lost or (decided is None and _is_somebodys(one)):
        yield _dead(one)


def _failed(handoff: Handoff, message: Message | None) -> Step:
    said = message or Message(message_id="", author=Author.USER)
    failed = replace(said, status=MessageStatus.FAILED, error=NOT_DELIVERED)
    return Step(signal="message_failed", bare=Bare.of(handoff, failed), facts={"error": NOT_DELIVERED})


def _is_somebodys(one: Undelivered) -> bool:
    """Return True when an event that nobody has decided yet carries what somebody said."""
    return one.topic == Kind.MESSAGE or one.topic.startswith(_BRIDGE)


def _dead(one: Undelivered) -> Step:
    about = {"portal_id": one.portal_id, "thread_id": one.thread_id, "handoff_id": one.handoff_id}
    facts = {"id": one.id, "topic": one.topic, **about, "attempts": one.attempts}
    return Step(signal="event_dead", facts={"event": facts, "error": NOT_DELIVERED})


# What the agent is told --------------------------------------------------------------------------------------


def _refusal_of(tx: Transaction, records: dict[str, HandoffRecord], one: Undelivered) -> NewEvent | None:
    """Return FAILED for an agent's message that no receiver, or not all, had accepted."""
    if one.topic == Kind.MESSAGE:
        return _refusal(f"erased:{one.id}", str(one.portal_id), Told.from_json(one.payload))
    return None


def _refusal(key: str, portal_id: str, told: Told) -> NewEvent | None:
    message_id = told.message and told.message.get("id")
    if not message_id or told.channel_id is None:
        return None
    return steps.late_refusal(portal_id, key, told.channel_id, str(message_id), REFUSED)


def marks_of(portal_id: str | None, thread_id: str | None, told: Told) -> set[str]:
    """Return by which keys the thread of an event would be remembered, had it been erased."""
    openings = told.integration_threads if isinstance(told.integration_threads, list) else []
    return {thread_mark(str(portal_id), str(thread_id)), *(opening_mark(str(one)) for one in openings)}


def refuse_late(tx: Transaction, events: Sequence[NewEvent], *, now: int) -> int:
    """Take events out again that were put for threads of which everything was erased, with their content.

    Called after they were put, because only then an erasure of the same lanes is over or waits.

    :returns: the number of events.
    """
    marks = {one.dedupe_key: marks_of(one.portal_id, one.thread_id, Told.from_json(one.payload)) for one in events}
    gone = tx.people.erased(set().union(*marks.values())) if marks else set()
    if not gone:
        return 0
    late = [one for one in events if not gone.isdisjoint(marks[one.dedupe_key])]
    tx.people.drop([one.dedupe_key for one in late], but=Topic.RECEIPT)
    messages = (one for one in late if one.topic == Kind.MESSAGE)
    refusals = (_refusal(one.dedupe_key, str(one.portal_id), Told.from_json(one.payload)) for one in messages)
    tx.queue.put([one for one in refusals if one is not None], now=now)
    return len(late)


# When HubSpot has deleted a thread for privacy ---------------------------------------------------------------


class EraseTask(CallingTask):
    """Erase a handoff whose thread HubSpot has deleted for privacy."""

    def __init__(self, services: Services, history: History) -> None:
        super().__init__(services.ledger)
        self._history = history

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Erase it, in a transaction of its own; where the webhook is only a hint, HubSpot is asked first."""
        with self._ledger.read() as tx:
            record = tx.records.get(str(event.handoff_id))
            found = people.of_handoff(tx, str(event.handoff_id))
        if record is None:
            return Done()
        is_hint = Told.from_json(event.payload).hint
        if is_hint and now < event.sort_at:
            return Retry("it is asked for when its time has come", at_ms=event.sort_at, is_planned=True)
        is_gone = not is_hint or self._history.thread(record, str(event.thread_id)) is None
        if is_gone:
            erase(self._ledger, found, by="hubspot")
        return Done()


class WipeTask(Task):
    """Have what was erased leave the database's files; on PostgreSQL there is nothing to do."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Do it, again and again until nobody else uses the database at that moment."""
        if self._ledger.wipe():
            return Done()
        return Retry("others use the database", at_ms=self._ledger.now_ms() + WIPE_AGAIN_MS, is_planned=True)
