"""Send an event's signals: each receiver is called, retried and given up by itself.

The plan in an event's state lists the signals that were decided; each step waits until all receivers of the one
before are settled. The start of a receiver is committed before it runs, its verdict afterwards; a crash between
repeats that one receiver, with the same ``message_id``.
"""

from __future__ import annotations

import logging
import random
import traceback
import weakref
from typing import Any

from blinker import NamedSignal
from flask import Flask

from .. import signals
from ..dispatch.seldom import Seldom
from ..dispatch.tasks import CallingTask, Dead, Done, Outcome, Retry, backoff_ms
from ..domain import CloseReason, MessageStatus
from ..errors import DeliveryDelayed, DeliveryFailed, LedgerUnavailable
from ..hubspot.text import scrub
from ..ledger import Bare, Event, Lease, Ledger, Step, Transaction
from ..portals.clients import Services
from . import steps
from .files import lasting
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

UNHEARD = (
    "No receiver is connected to %s: what it tells reaches nobody, and agents' messages fail after five minutes. "
    "Connect a function where the app is made, such as 'operator_message.connect(show, app)'; signals hold it weakly"
)

_SIGNALS: dict[str, NamedSignal] = {
    name: value for name, value in vars(signals).items() if isinstance(value, NamedSignal)
}
CORE = ("operator_assigned", "operator_message", "conversation_completed")
"""The signals that every host must hear."""


def unheard(app: Flask) -> list[str]:
    """Return the names of the core signals that nothing is connected to."""
    return [name for name in CORE if not any(_SIGNALS[name].receivers_for(app))]


def warn_of_unheard(app: Flask) -> None:
    """Log which core signals nothing is connected to, if any."""
    if names := unheard(app):
        logger.warning(UNHEARD, ", ".join(names))


def receivers_of(name: str, app: Flask) -> list[tuple[str, Receiver]]:
    """Return the live receivers of a signal for one app, in the order they were connected in.

    Each has a name that is the same in every process; two of one name are told apart by an ordinal.
    """
    signal = _SIGNALS[name]
    live = list(signal.receivers_for(app))
    connected = [one() if isinstance(one, weakref.ref) else one for one in list(signal.receivers.values())]
    found = [one for one in connected if one in live]
    named: list[tuple[str, Receiver]] = []
    seen: dict[str, int] = {}
    for receiver in found:
        label = _label(receiver)
        seen[label] = seen.get(label, 0) + 1
        named.append((label if seen[label] == 1 else f"{label}#{seen[label]}", receiver))
    return named


def _label(receiver: Receiver) -> str:
    where = receiver if hasattr(receiver, "__qualname__") else type(receiver)
    return f"{where.__module__}:{where.__qualname__}"


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

    # Which receiver is next ------------------------------------------------------------------------------

    def _open_receivers(self, state: SignalState) -> list[tuple[str, Receiver]]:
        """Return the current step's receivers that are not settled, after moving past settled steps."""
        plan = state.plan or []
        while state.step < len(plan):
            signal = plan[state.step].signal
            keyed = self._receivers(state, signal)
            still_open = [(key, one) for key, one in keyed if state.receipts.get(key, Receipt()).verdict is None]
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
        return list(state.receivers[1])

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
        state.begun = None
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

    # Running them ----------------------------------------------------------------------------------------

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Call the receivers one after the other; the first one's start is already committed."""
        state = event.state(SignalState)
        while state.begun is not None:
            key, receiver = state.begun
            self._call(key, receiver, state)
            state.tried.add(key)
            if all(one in state.tried for one, _ in self._open_receivers(state)):
                break
            try:
                with self._ledger.write() as tx:
                    if not tx.queue.holds(lease):
                        return Retry("the lease was lost")
                    self.begin(tx, event)
            except LedgerUnavailable as error:
                return Retry(str(error))
        return self._verdict(event, state)

    def _call(self, key: str, receiver: Receiver, state: SignalState) -> None:
        receipt = state.receipts[key]
        receipt.starts = 0
        try:
            call(self._app, receiver, state.values or {})
        except DeliveryFailed as error:
            receipt.verdict, receipt.error = "refused", scrub(str(error))[:REASON_LIMIT]
        except DeliveryDelayed as error:
            receipt.error = type(error).__name__
            self._delay(state, receipt, error)
        except KeyboardInterrupt:
            raise  # of the person who runs us
        except BaseException as error:  # a cancelled task, gevent's Timeout and an exit are failures as well
            receipt.attempts += 1
            receipt.error = type(error).__name__
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
            wait = backoff_ms(state.delays, counts=False, jitter=random.random())  # noqa: S311 - spreads retries, guards nothing
            state.delays += 1
        else:
            state.not_asked = str(error)
        if error.retry_after is not None:
            wait = max(wait, int(error.retry_after * 1000))
        state.not_before = max(state.not_before, now + wait)

    def _verdict(self, event: Event, state: SignalState) -> Outcome:
        now = self._ledger.now_ms()
        waiting = self._open_receivers(state)
        if waiting:
            attempts = max(state.receipts.get(key, Receipt()).attempts for key, _ in waiting)
            at_ms, state.not_before = state.not_before, 0
            if not at_ms:
                at_ms = now + backoff_ms(max(0, attempts - 1), counts=True, jitter=random.random())  # noqa: S311 - spreads retries, guards nothing
            return Retry(state.not_asked or "a receiver failed", at_ms=at_ms)
        if state.step < len(state.plan or ()):
            return self._unheard(event, state, now)
        dead = [one for one in state.receipts.values() if one.verdict == "dead"]
        error = f"given up by {len(dead)} receiver(s): {dead[0].error}" if dead else None
        return self._settled(event, error)

    def _unheard(self, event: Event, state: SignalState, now: int) -> Outcome:
        """Postpone a core signal that has no receiver; fail it after five minutes (docs/rules.rst B7)."""
        if self._settling() and not self.has_listeners():
            return Retry("no receiver is connected yet", at_ms=now + 500)
        state.unheard_since = since = now if state.unheard_since is None else state.unheard_since
        if now - since < UNHEARD_MS:
            return Retry("no receiver is connected to operator_message", at_ms=now + UNHEARD_RETRY_MS)
        state.unheard = True
        return self._settled(event, "no receiver is connected to operator_message")

    def _settled(self, event: Event, error: str | None) -> Outcome:
        """Finish an event whose receivers are all settled, with a receipt for each message."""
        if error is not None:
            return Dead(error)  # its messages get their receipts when it is buried

        def effect(tx: Transaction) -> None:
            self._put_receipts(tx, event, is_dead=False)

        return Done(effect)

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
        status = MessageStatus.SENT if reason is None else MessageStatus.FAILED
        tx.records.set_message(step.message_row, status=status.value, error=reason)
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


_AS_THEY_ARE = (*("detail", "error", "event", "portal_id", "account", "change", "actor_id", "conversation_ids", "by"),)
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
        values |= {"reason": CloseReason(step.reason), "transcript": transcript}
    values |= {name: step.facts[name] for name in _AS_THEY_ARE if name in step.facts}
    if event.after_gap:
        values["after_gap"] = True
    return values


def _bare_values(bare: Bare, reason: str | None) -> dict[str, Any]:
    """Return the keywords of a signal about a handoff that was erased."""
    message = {} if bare.message is None else {"message": bare.message}
    ended = {} if reason is None else {"reason": CloseReason(reason), "transcript": []}
    return {"handoff": bare.handoff, **message, **ended}
