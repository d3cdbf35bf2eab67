"""Send an event's signals: each receiver is called, retried and given up by itself.

The plan in an event's state lists the signals that were decided; each step waits until all receivers of the one
before are settled. The start of a receiver is committed before it runs, its verdict afterwards; a crash between
repeats that one receiver, with the same ``message_id``.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Flask

from ..clock import to_datetime
from ..dispatch.seldom import Seldom
from ..dispatch.tasks import CallingTask, Dead, Done, Outcome, Retry, backoff_ms
from ..domain import CloseReason, Contact, MessageStatus, Waiting
from ..errors import DeliveryDelayed, DeliveryFailed, LaneTaken, LedgerUnavailable
from ..hubspot.text import scrub
from ..ledger import Bare, Event, Lease, Ledger, Step, Transaction
from ..metrics import HANDLER
from ..portals.clients import Services
from ..process import dice
from . import outcome, queue, silence, steps
from .files import lasting
from .hearing import CORE, UNHEARD, hears, receivers_of, unheard
from .receivers import Receiver, call
from .states import Receipt, SignalState

logger = logging.getLogger(__name__)

UNHEARD_MS = 300_000
UNHEARD_RETRY_MS = 5_000
DELAYED_MS = 86_400_000
"""Milliseconds during which a receiver that says its service is down is tried again."""
START_GRACE_MS = 5_000
MAX_UNFINISHED_STARTS = 5
REASON_LIMIT = 500
NOT_DELIVERED = "This message could not be delivered to the chat."


class Emitter:
    """Send the signals of stored plans, for one app."""

    def __init__(self, app: Flask, services: Services) -> None:
        self._app = app
        self._services = services
        self._settings = services.settings
        self._ledger = services.ledger
        self._started_ms = self._ledger.now_ms()
        self._seldom = Seldom()

    def has_listeners(self) -> bool:
        """Return True when a receiver is connected to a core signal."""
        return len(unheard(self._app)) < len(CORE)

    def hears(self, signal: str) -> bool:
        """Return True when a receiver is connected to a signal."""
        return hears(signal, self._app)

    # Which receiver is next ------------------------------------------------------------------------------

    def _open_receivers(self, state: SignalState) -> list[tuple[str, Receiver]]:
        """Return the current step's receivers that are not settled, after moving past settled steps."""
        plan = state.plan or []
        while state.step < len(plan):
            signal = plan[state.step].signal
            keyed = self._receivers(state, signal)
            receipts = state.receipts
            still_open = [one for one in keyed if one[0] not in receipts or receipts[one[0]].verdict is None]
            if still_open or (not keyed and self._must_be_heard(state, signal)):
                return still_open
            state.step += 1
            state.values = None
        return []

    def _receivers(self, state: SignalState, signal: str) -> list[tuple[str, Receiver]]:
        """Return a step's receivers, with the names of their receipts; the same throughout a run."""
        if state.receivers is None or state.receivers[0] != state.step:
            found = [(f"{state.step}:{signal}:{label}", one) for label, one in receivers_of(signal, self._app)]
            state.receivers = state.step, found
        return state.receivers[1]

    def _must_be_heard(self, state: SignalState, signal: str) -> bool:
        if signal in CORE and self._settling() and not self.has_listeners():
            return True  # the host is still being put together: its handlers are not connected yet
        if signal == "operator_message" or (signal in CORE and not self.has_listeners()):
            self._seldom(logger, logging.WARNING, UNHEARD, signal)
        return signal == "operator_message" and not state.unheard

    def _settling(self) -> bool:
        return self._ledger.now_ms() - self._started_ms < START_GRACE_MS

    def begin(self, tx: Transaction, event: Event) -> None:
        """Store, in the given transaction, that the next receiver is about to run."""
        state = event.state(SignalState)
        if _is_stale(tx, state):
            state.plan = []
        state.begun = None
        if state.receipts and not state.tried:
            state.later = self._not_yet(state)
            state.tried |= state.later
        for key, receiver in self._open_receivers(state):
            if key in state.tried:
                continue
            receipt = state.receipts.setdefault(key, Receipt())
            if receipt.starts >= MAX_UNFINISHED_STARTS:
                receipt.verdict, receipt.error = "dead", f"it ended the process {receipt.starts} times"
                continue
            receipt.starts += 1
            state.begun = key, receiver
            if state.values is None:
                state.values = _values(tx, event, state, self._services)
            break
        tx.queue.save(event)

    def _not_yet(self, state: SignalState) -> set[str]:
        """Return the receivers whose time has not come; none when that are all: somebody wants them tried now."""
        now = self._ledger.now_ms()
        found = [key for key, _ in self._open_receivers(state)]
        later = {key for key in found if key in state.receipts and state.receipts[key].not_before > now}
        return later if len(later) < len(found) else set()

    # Running them ----------------------------------------------------------------------------------------

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Call the receivers one after the other; the first one's start is already committed."""
        state = event.state(SignalState)
        while state.begun is not None:
            key, receiver = state.begun
            began = time.monotonic()
            self._call(key, receiver, state)
            self._measure_call(key, state, time.monotonic() - began)
            state.tried.add(key)
            if all(one in state.tried for one, _ in self._open_receivers(state)):
                break
            try:
                with self._ledger.write() as tx:
                    if not tx.queue.holds(lease):
                        return Retry("the lease was lost")
                    self.begin(tx, event)
            except LedgerUnavailable as error:
                return Retry(str(error), cause=error)
        return self._verdict(event, state)

    def _call(self, key: str, receiver: Receiver, state: SignalState) -> None:
        receipt = state.receipts[key]
        receipt.starts = receipt.not_before = 0
        try:
            call(self._app, receiver, state.values or {})
        except DeliveryFailed as error:
            receipt.verdict, receipt.error = "refused", scrub(str(error))[:REASON_LIMIT]
        except DeliveryDelayed as error:
            receipt.error = type(error).__name__
            self._delay(state, receipt, error)
        except LaneTaken as error:  # what it was called with was erased, or another process calls it
            receipt.error = type(error).__name__
        except KeyboardInterrupt:
            raise  # of the person who runs us
        except BaseException as error:  # a cancelled task, gevent's Timeout and an exit are failures as well
            receipt.attempts += 1
            receipt.error = type(error).__name__
            receipt.not_before = self._later(receipt)
            state.raised = state.raised or key
            if receipt.attempts >= self._settings.max_attempts:
                receipt.verdict = "dead"
            # The traceback, but not the exception's text: it may hold what was said.
            where = "".join(traceback.format_tb(error.__traceback__)).rstrip()
            logger.warning(
                "Receiver %s raised %s (attempt %d of %d); it is tried again later, and the thread's later events "
                "wait. Where it was raised:\n%s",
                key, type(error).__name__, receipt.attempts, self._settings.max_attempts, where,
            )  # fmt: skip
        else:
            receipt.verdict, receipt.error = "accepted", None
            state.delayed_since = None

    def _delay(self, state: SignalState, receipt: Receipt, error: DeliveryDelayed) -> None:
        """Postpone a receiver that says its service is down; no attempt is counted, until DELAYED_MS have passed."""
        now = self._ledger.now_ms()
        state.delayed_since = since = now if state.delayed_since is None else state.delayed_since
        if now - since >= DELAYED_MS:
            receipt.verdict = "dead"
            return
        wait = 0
        if error.is_failure:
            wait = backoff_ms(state.delays, counts=False, jitter=dice.random())
            state.delays += 1
        else:
            state.not_asked, state.is_planned = str(error), error.is_planned
        if error.retry_after is not None:
            wait = max(wait, int(error.retry_after * 1000))
        receipt.not_before = now + wait

    def _later(self, receipt: Receipt) -> int:
        """Return when a receiver that has failed is called again, in epoch ms: later and later."""
        return self._ledger.now_ms() + backoff_ms(max(0, receipt.attempts - 1), counts=True, jitter=dice.random())

    def _verdict(self, event: Event, state: SignalState) -> Outcome:
        waiting = self._open_receivers(state)
        if waiting:
            receipts = [state.receipts.get(key, Receipt()) for key, _ in waiting]
            at_ms = min(one.not_before or self._later(one) for one in receipts)
            attempts = max(one.attempts for one in receipts)
            if not attempts and all(key in state.later for key, _ in waiting):
                return Retry("the time of a receiver that was put off has not come", at_ms=at_ms, is_planned=True)
            if state.raised is None and state.not_asked is not None:
                return Retry(state.not_asked, at_ms=at_ms, is_planned=state.is_planned, attempt=attempts or None)
            return Retry(_why(state.raised or waiting[0][0], state), at_ms=at_ms, attempt=attempts or None)
        if state.step < len(state.plan or ()):
            return self._unheard(event, state, self._ledger.now_ms())
        dead = [one for one in state.receipts.values() if one.verdict == "dead"]
        error = f"given up by {len(dead)} receiver(s): {dead[0].error}" if dead else None
        return self._settled(event, error)

    def _unheard(self, event: Event, state: SignalState, now: int) -> Outcome:
        """Postpone a core signal that has no receiver; fail it after five minutes (docs/rules.rst B7)."""
        if self._settling() and not self.has_listeners():
            return Retry("no receiver is connected yet", at_ms=now + 500, is_planned=True)
        state.unheard_since = since = now if state.unheard_since is None else state.unheard_since
        if now - since < UNHEARD_MS:
            return Retry("no receiver is connected to operator_message", at_ms=now + UNHEARD_RETRY_MS)
        state.unheard = True
        return self._settled(event, "no receiver is connected to operator_message")

    def _settled(self, event: Event, error: str | None) -> Outcome:
        """Finish an event whose receivers are all settled, with a receipt for each message."""
        self._measure_ends(event.state(SignalState).plan or ())
        if error is not None:
            return Dead(error)  # its messages get their receipts when it is buried
        if not any(step.signal == "operator_message" for step in event.state(SignalState).plan or ()):
            return Done()

        def effect(tx: Transaction) -> None:
            self._put_receipts(tx, event, is_dead=False)

        return Done(effect)

    def _measure_call(self, key: str, state: SignalState, seconds: float) -> None:
        result = state.receipts[key].verdict or "tried again"
        self._services.meter(HANDLER, seconds, signal=(state.plan or [])[state.step].signal, result=result)

    def _measure_ends(self, plan: Sequence[Step]) -> None:
        for step in plan:
            for metric, name in outcome.MEASURED:
                if (seconds := step.facts.get(name)) is not None:
                    self._services.meter(metric, float(seconds))

    def _put_receipts(self, tx: Transaction, event: Event, *, is_dead: bool) -> None:
        state = event.state(SignalState)
        for index, step in enumerate(state.plan or ()):
            if step.signal == "operator_message":
                self._receipt(tx, state, index, step, is_dead=is_dead)

    def _receipt(self, tx: Transaction, state: SignalState, index: int, step: Step, *, is_dead: bool) -> None:
        mine = [one for key, one in state.receipts.items() if key.startswith(f"{index}:")]
        refused = next((one.error for one in mine if one.verdict == "refused"), None)
        is_through = state.step > index and mine and not any(one.verdict == "dead" for one in mine)
        dead = is_dead and not is_through
        reason = refused or (NOT_DELIVERED if refused is not None or dead else None)
        record = tx.records.get(str(step.handoff_id))
        message = None if step.message_row is None else tx.records.get_message(step.message_row)
        if record is None or message is None or step.message_row is None:
            return
        if reason is not None:
            tx.records.set_message(step.message_row, status=MessageStatus.FAILED.value, error=reason)
        elif not tx.records.set_status(step.message_row, MessageStatus.SENT, unless=[MessageStatus.READ]):
            return  # the user has read it, which says more
        steps.put_receipt(tx, record, message.message_id, error=reason, now=self._ledger.now_ms())

    def buried(self, tx: Transaction, event: Event) -> None:
        """Tell agents FAILED for the messages of an event that was given up, by a receiver or outside of one."""
        self._put_receipts(tx, event, is_dead=True)


class SignalTask(CallingTask):
    """Run events that lead to signals."""

    def __init__(self, ledger: Ledger, emitter: Emitter) -> None:
        super().__init__(ledger)
        self._emitter = emitter

    def limits_starts(self, event: Event) -> bool:
        """Return True once receivers are called: each has a limit of its own."""
        return bool(event.state(SignalState).receipts)


def _why(key: str, state: SignalState) -> str:
    """Return which receiver is tried again, and the kind of exception that it raised; its words may be a user's."""
    receipt = state.receipts.get(key)
    if receipt is None or receipt.error is None:
        return "a receiver failed"
    _step, _signal, label = key.split(":", 2)
    return f"{label} raised {receipt.error}"


_AS_THEY_ARE = (
    *("detail", "error", "event", "portal_id", "account", "change", "actor_id", "conversation_ids", "by", "bridge"),
    "actor",
    "properties",
)
"""The facts of a step that receivers get."""


def _values(tx: Transaction, event: Event, state: SignalState, services: Services) -> dict[str, Any]:
    """Return the keywords that the current step's receivers get."""
    plan = state.plan or []
    step = plan[state.step]
    values: dict[str, Any] = {}
    if step.handoff_id is not None:
        is_this = (
            state.record is not None and state.record.handoff.id == step.handoff_id
        )  # when it was decided just now
        record = state.record if is_this else tx.records.get(step.handoff_id)
        handoff = None if record is None else record.handoff
        if handoff is not None and step.snapshot is not None and not (is_this and len(plan) == 1):
            handoff = step.snapshot.onto(handoff)
        values["handoff"] = handoff
    if step.bare is not None:
        values |= _bare_values(step.bare, step.reason)
    if step.message_row is not None:
        values["message"] = tx.records.get_message(step.message_row)
    if step.operator is not None:
        values |= {"operator": step.operator, "previous": step.previous}
    if step.reason is not None and step.handoff_id is not None:
        transcript = lasting(services, step.handoff_id, tx.records.messages_of(step.handoff_id))
        values |= {"reason": CloseReason(step.reason), "transcript": transcript, **outcome.values_of(step.facts)}
    values |= {name: step.facts[name] for name in _AS_THEY_ARE if name in step.facts}
    values |= _made_of(step.facts)
    if "contact" in step.facts:  # of a conversation that an agent began; its message is in no row yet
        given = step.facts["contact"]
        values |= {"contact": given and Contact(**given), "message": getattr(state, "message", None)}
    if event.after_gap:
        values["after_gap"] = True
    return values


def _is_stale(tx: Transaction, state: SignalState) -> bool:
    """Return True for what is no news any more: a place in the queue of a handoff that has an agent, or is over; a
    silence that has ended.
    """
    plan = state.plan or []
    if len(plan) != 1 or plan[0].handoff_id is None or plan[0].signal not in (queue.SIGNAL, "idle_warning"):
        return False
    record = tx.records.get(plan[0].handoff_id)
    if plan[0].signal == queue.SIGNAL:
        return record is None or record.handoff.state not in queue.STATES
    return not silence.lasts(record, plan[0].handoff_id, plan[0].facts["since"])


def _made_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that are values of ours, or are called otherwise in the facts."""
    values: dict[str, Any] = {}
    if "inbox_id" in facts:
        values |= {"inbox_id": facts["inbox_id"], "previous": facts["previous_inbox"]}
    if "waiting" in facts:
        values["waiting"] = Waiting(facts["waiting"]["ahead"], facts["waiting"]["estimate"])
    if "ends_at" in facts:
        values["ends_at"] = None if facts["ends_at"] is None else to_datetime(facts["ends_at"])
    return values


def _bare_values(bare: Bare, reason: str | None) -> dict[str, Any]:
    """Return the keywords of a signal about a handoff that was erased."""
    message = {} if bare.message is None else {"message": bare.message}
    ended = {} if reason is None else {"reason": CloseReason(reason), "transcript": [], **outcome.values_of({})}
    return {"handoff": bare.handoff, **message, **ended}
