"""Signals out of the ledger: every receiver is asked alone, retried alone, and given up alone.

An event's ``progress["plan"]`` lists the signals it decided; each step waits until all receivers of the one
before are settled. The start of a receiver is committed before it runs, its verdict afterwards; a crash between
repeats that one receiver, with the same ``message_id``.
"""

from __future__ import annotations

import logging
import random
import traceback
import weakref
from dataclasses import replace
from typing import Any

from blinker import NamedSignal
from flask import Flask

from .. import signals
from ..clock import to_datetime
from ..config import Settings
from ..dispatch.tasks import Dead, Done, Outcome, Retry, backoff_ms
from ..domain import CloseReason, Handoff, HandoffState, MessageStatus
from ..errors import DeliveryDelayed, DeliveryFailed, LedgerUnavailable
from ..hubspot.text import scrub
from ..ledger import Event, Lease, Ledger, Receipt, Transaction
from ..ledger.codec import operator_from_json
from . import steps
from .receivers import Receiver, call

logger = logging.getLogger(__name__)

UNHEARD_MS = 300_000
UNHEARD_RETRY_MS = 5_000
DELAYED_MS = 86_400_000
"""A receiver whose service is down is asked again for this long."""
START_GRACE_MS = 5_000
MAX_UNFINISHED_STARTS = 5
REASON_LIMIT = 500
NOT_DELIVERED = "This message could not be delivered to the chat."

_SIGNALS: dict[str, NamedSignal] = {
    name: value for name, value in vars(signals).items() if isinstance(value, NamedSignal)
}
_CORE = ("operator_assigned", "operator_message", "conversation_completed")


def receivers_of(name: str, app: Flask) -> list[tuple[str, Receiver]]:
    """The live receivers of a signal for one app, in the order they were connected in.

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
    """Carries out plans for one app."""

    def __init__(self, app: Flask, settings: Settings, ledger: Ledger) -> None:
        self._app = app
        self._settings = settings
        self._ledger = ledger
        self._started_ms = ledger.now_ms()

    def has_listeners(self) -> bool:
        """True when something is connected to a core signal."""
        return any(True for name in _CORE for _ in _SIGNALS[name].receivers_for(self._app))

    # Which receiver is next ------------------------------------------------------------------------------

    def _open_receivers(self, event: Event) -> list[tuple[str, Receiver]]:
        """The receivers of the current step that are not settled yet; moves past steps that are."""
        plan: list[dict[str, Any]] = event.progress["plan"]
        while (index := event.progress.get("step", 0)) < len(plan):
            signal = plan[index]["signal"]
            keyed = self._receivers(event, index, signal)
            still_open = [(key, one) for key, one in keyed if event.receipts.get(key, Receipt()).verdict is None]
            if still_open or (not keyed and self._must_be_heard(event, signal)):
                return still_open
            event.progress["step"] = index + 1
            event.scratch.pop("kwargs", None)
        return []

    def _receivers(self, event: Event, index: int, signal: str) -> list[tuple[str, Receiver]]:
        """A step's receivers, with the names of their receipts; the same throughout a run."""
        of_step, found = event.scratch.get("receivers", (None, []))
        if of_step != index:
            found = [(f"{index}:{signal}:{label}", one) for label, one in receivers_of(signal, self._app)]
            event.scratch["receivers"] = (index, found)
        return list(found)

    def _must_be_heard(self, event: Event, signal: str) -> bool:
        if signal in _CORE and self._settling() and not self.has_listeners():
            return True  # the host is still being put together: its handlers are not connected yet
        return signal == "operator_message" and "unheard" not in event.progress

    def _settling(self) -> bool:
        return self._ledger.now_ms() - self._started_ms < START_GRACE_MS

    def begin(self, tx: Transaction, event: Event) -> None:
        """Save, with the transaction at hand, that the next receiver is about to run."""
        event.scratch.pop("begun", None)
        tried: set[str] = event.scratch.setdefault("tried", set())
        for key, receiver in self._open_receivers(event):
            if key in tried:
                continue
            receipt = event.receipts.setdefault(key, Receipt())
            if receipt.starts >= MAX_UNFINISHED_STARTS:
                receipt.verdict, receipt.error = "dead", f"it ended the process {receipt.starts} times"
                continue
            receipt.starts += 1
            event.scratch["begun"] = (key, receiver)
            if "kwargs" not in event.scratch:
                event.scratch["kwargs"] = self._kwargs(tx, event)
            break
        tx.queue.save(event)

    def _kwargs(self, tx: Transaction, event: Event) -> dict[str, Any]:
        """What the current step's receivers are told."""
        plan = event.progress["plan"]
        step = plan[event.progress.get("step", 0)]
        kwargs: dict[str, Any] = {}
        if "handoff" in step:
            record = event.scratch.get("record")  # when it was decided just now
            is_this = record is not None and record.handoff.id == step["handoff"]
            if not is_this:
                record = tx.records.get(step["handoff"])
            if record is None or (is_this and len(plan) == 1):
                kwargs["handoff"] = record and record.handoff
            else:
                kwargs["handoff"] = _as_it_was(record.handoff, step["snapshot"])
        if "message_row" in step:
            kwargs["message"] = tx.records.get_message(step["message_row"])
        if "operator" in step:
            kwargs["operator"] = operator_from_json(step["operator"])
            kwargs["previous"] = operator_from_json(step["previous"])
        if step["signal"] == "conversation_completed":
            kwargs["reason"] = CloseReason(step["reason"])
            kwargs["transcript"] = tx.records.messages_of(step["handoff"])
        kwargs |= {
            name: step[name] for name in ("detail", "error", "event", "portal_id", "account", "change") if name in step
        }
        if event.after_gap:
            kwargs["after_gap"] = True
        return kwargs

    # Running them ----------------------------------------------------------------------------------------

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Ask the receivers one after the other; the first one's start is already committed."""
        while begun := event.scratch.get("begun"):
            key, receiver = begun
            self._call(key, receiver, event)
            event.scratch["tried"].add(key)
            remaining = [one for one, _ in self._open_receivers(event) if one not in event.scratch["tried"]]
            if not remaining:
                break
            try:
                with self._ledger.write() as tx:
                    if not tx.queue.holds(lease):
                        return Retry("the lease was lost")
                    self.begin(tx, event)
            except LedgerUnavailable as error:
                return Retry(str(error))
        return self._verdict(event)

    def _call(self, key: str, receiver: Receiver, event: Event) -> None:
        receipt = event.receipts[key]
        receipt.starts = 0
        try:
            call(self._app, receiver, event.scratch["kwargs"])
        except DeliveryFailed as error:
            receipt.verdict, receipt.error = "refused", scrub(str(error))[:REASON_LIMIT]
        except DeliveryDelayed as error:
            receipt.error = type(error).__name__
            self._delay(event, receipt, error)
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
                "Receiver %s raised %s (attempt %d of %d)\n%s",
                key, type(error).__name__, receipt.attempts, self._settings.max_attempts, where,
            )  # fmt: skip
        else:
            receipt.verdict, receipt.error = "accepted", None
            event.progress.pop("delayed_since", None)

    def _delay(self, event: Event, receipt: Receipt, error: DeliveryDelayed) -> None:
        """The receiver's service is down: that is no attempt, but it does not go on for ever."""
        now = self._ledger.now_ms()
        since = event.progress.setdefault("delayed_since", now)
        if now - since >= DELAYED_MS:
            receipt.verdict = "dead"
            return
        delays = event.progress["delays"] = event.progress.get("delays", 0) + 1
        wait = backoff_ms(delays - 1, counts=False, jitter=random.random())  # noqa: S311 - spreads retries, guards nothing
        if error.retry_after is not None:
            wait = max(wait, int(error.retry_after * 1000))
        event.scratch["not_before"] = max(event.scratch.get("not_before", 0), now + wait)

    def _verdict(self, event: Event) -> Outcome:
        now = self._ledger.now_ms()
        waiting = self._open_receivers(event)
        if waiting:
            attempts = max(event.receipts.get(key, Receipt()).attempts for key, _ in waiting)
            at_ms: int | None = event.scratch.pop("not_before", None)
            if at_ms is None:
                at_ms = now + backoff_ms(max(0, attempts - 1), counts=True, jitter=random.random())  # noqa: S311 - spreads retries, guards nothing
            return Retry("a receiver failed", at_ms=at_ms)
        if event.progress.get("step", 0) < len(event.progress["plan"]):
            return self._unheard(event, now)
        dead = [one for one in event.receipts.values() if one.verdict == "dead"]
        error = f"given up by {len(dead)} receiver(s): {dead[0].error}" if dead else None
        return self._settled(event, error)

    def _unheard(self, event: Event, now: int) -> Outcome:
        """Nobody is connected to a signal that must not get lost."""
        if self._settling() and not self.has_listeners():
            return Retry("no receiver is connected yet", at_ms=now + 500)
        since = event.progress.setdefault("unheard_since", now)
        if now - since < UNHEARD_MS:
            return Retry("no receiver is connected to operator_message", at_ms=now + UNHEARD_RETRY_MS)
        event.progress["unheard"] = True
        return self._settled(event, "no receiver is connected to operator_message")

    def _settled(self, event: Event, error: str | None) -> Outcome:
        """All receivers are through: the agent gets a receipt for each message. One given up gets it when buried."""
        if error is not None:
            return Dead(error)

        def effect(tx: Transaction) -> None:
            self._put_receipts(tx, event, is_dead=False)

        return Done(effect)

    def _put_receipts(self, tx: Transaction, event: Event, *, is_dead: bool) -> None:
        for index, step in enumerate(event.progress.get("plan", ())):
            if step["signal"] == "operator_message":
                self._receipt(tx, event, index, step, is_dead=is_dead)

    def _receipt(self, tx: Transaction, event: Event, index: int, step: dict[str, Any], *, is_dead: bool) -> None:
        mine = [one for key, one in event.receipts.items() if key.startswith(f"{index}:")]
        refused = next((one.error for one in mine if one.verdict == "refused"), None)
        is_through = event.progress.get("step", 0) > index and mine and not any(one.verdict == "dead" for one in mine)
        dead = is_dead and not is_through
        reason = refused or (NOT_DELIVERED if refused is not None or dead else None)
        record = tx.records.get(step["handoff"])
        message = tx.records.get_message(step["message_row"])
        if record is None or message is None:
            return
        status = MessageStatus.SENT if reason is None else MessageStatus.FAILED
        tx.records.set_message(step["message_row"], status=status.value, error=reason)
        steps.put_receipt(tx, record, message.message_id, error=reason, now=self._ledger.now_ms())

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """The event is given up, by a receiver or outside one: agents must not take its messages for delivered."""
        self._put_receipts(tx, event, is_dead=True)


def _as_it_was(handoff: Handoff, snapshot: dict[str, Any]) -> Handoff:
    """The handoff as it was when the signal was decided."""
    assigned_at, closed_at = snapshot["assigned_at"], snapshot["closed_at"]
    return replace(
        handoff,
        state=HandoffState(snapshot["state"]),
        operator=operator_from_json(snapshot["operator"]),
        reason=CloseReason(snapshot["reason"]) if snapshot["reason"] else None,
        detail=snapshot["detail"],
        assigned_at=None if assigned_at is None else to_datetime(assigned_at),
        closed_at=None if closed_at is None else to_datetime(closed_at),
    )
