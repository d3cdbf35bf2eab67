"""Let an agent begin a conversation: ask the host whose it is, and make a handoff of it (docs/rules.rst L4).

An agent's first message in a thread that no handoff has becomes ``operator_started``. When a receiver has called
``hitl.accept``, the same message goes on as that of any other handoff.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..clock import to_datetime
from ..dispatch.dispatcher import Dispatcher
from ..dispatch.tasks import Again, Dead, Done, Outcome, Retry
from ..domain import Contact, Handoff, HandoffState
from ..errors import DeliveryFailed
from ..hubspot import fields
from ..hubspot.fields import PERSON
from ..ledger import Event, HandoffRecord, Step, Transaction, lanes
from ..portals.clients import Services
from . import silence, steps
from .states import InboundState, Receipt, Told

SIGNAL = "operator_started"
ACCEPT_MS = 300_000
"""Milliseconds during which somebody may accept the conversation; as for a message that nobody hears (rule B7)."""
ASK_AGAIN_MS = 5_000
"""Milliseconds between two looks whether somebody has."""
NOT_A_START = "an agent's message in a thread that no handoff of ours has"
NOBODY = "no receiver of operator_started has accepted the conversation that an agent began"
BUSY = "This person is in another conversation with your team already."
_OPAQUE = "CHANNEL_SPECIFIC_OPAQUE_ID"
_OURS = re.compile(r"[^.\s]+\.[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""The random id of a handoff's thread, of this deployment or of another on the same channel (rule C2)."""
_NAME = re.compile(r"([0-9]{1,19})-([0-9]{1,19})-([0-9]{1,19})")


class App(Protocol):
    """Define what :func:`accept` needs of an app."""

    dispatcher: Dispatcher

    @property
    def services(self) -> Services:
        """Return the HubSpot clients, and what they need."""


# Is it one? ------------------------------------------------------------------------------------------------------


def may_be_start(told: Told) -> bool:
    """Return False for a thread that was opened by a handoff, here or elsewhere, whatever became of it."""
    names = told.integration_threads if isinstance(told.integration_threads, list) else []
    return not any(_OURS.fullmatch(str(one)) for one in names)


def user_has_written(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Return True when a thread has a message of the user's: then no agent began it."""
    return any(fields.word(one.get("direction")) == "INCOMING" for one in entries)


def addressee(told: Told) -> dict[str, str]:
    """Return whom an agent's message is for: the delivery identifier's ``type`` and ``value``, and ``name``."""
    first = next(iter(fields.mappings((told.message or {}).get("recipients"))), {})
    identifier = fields.mapping(first.get("deliveryIdentifier"))
    given = {"type": identifier.get("type"), "value": identifier.get("value"), "name": first.get("name")}
    return {name: found for name, value in given.items() if (found := fields.text(value))}


def contact_of(told: Told) -> dict[str, str] | None:
    """Return the phone number or e-mail address that an agent writes to, as fields of a contact."""
    whom = addressee(told)
    field = {"HS_EMAIL_ADDRESS": "email", "HS_PHONE_NUMBER": "phone"}.get(whom.get("type", ""))
    return {field: whom["value"]} if field and "value" in whom else None


# Asking ----------------------------------------------------------------------------------------------------------


def plan(event: Event, told: Told) -> steps.Plan:
    """Return the question whose conversation it is."""
    name = f"{event.portal_id}-{event.thread_id}-{event.id}"
    return [Step(signal=SIGNAL, facts={"portal_id": event.portal_id, "contact": contact_of(told), "event": name})]


def is_asking(state: InboundState) -> bool:
    """Return True while the plan is that question."""
    return state.plan is not None and [one.signal for one in state.plan] == [SIGNAL]


def answered(state: InboundState) -> None:
    """Have the message decided anew: somebody has accepted the conversation."""
    state.plan, state.step, state.receipts, state.receivers, state.values = None, 0, {}, None, None
    state.unheard_since = None
    state.tried.clear()


def handoff_of(tx: Transaction, portal_id: str | None, thread_id: str | None) -> str | None:
    """Return the handoff that a thread has by now."""
    thread = str(portal_id), str(thread_id)
    return tx.records.handoffs_of_threads({thread}).get(thread)


def after_asking(services: Services, event: Event, state: InboundState, outcome: Outcome, now: int) -> Outcome:
    """Return what follows when the receivers were asked: the first acceptance counts, then a refusal."""
    with services.ledger.read() as tx:
        accepted = handoff_of(tx, event.portal_id, event.thread_id)
    if accepted is not None:
        return Again()
    if not isinstance(outcome, Done):
        return outcome
    if (refused := refusal(state.receipts)) is not None:
        told = Told.from_json(event.payload)
        channel_id, message_id = str(told.channel_id), str((told.message or {}).get("id"))
        return Done(lambda tx: steps.put_refusal(tx, event, channel_id, message_id, error=refused, now=now))
    state.unheard_since = since = now if state.unheard_since is None else state.unheard_since
    if now - since >= ACCEPT_MS:
        return Dead(NOBODY)
    state.step = 0  # one who is connected meanwhile is asked; those who returned are not asked again
    return Retry(NOBODY, at_ms=now + ASK_AGAIN_MS)


def refusal(receipts: Mapping[str, Receipt]) -> str | None:
    """Return why a receiver refused the conversation, in the host's words; None when none did."""
    return next((one.error or BUSY for one in receipts.values() if one.verdict == "refused"), None)


# Accepting -------------------------------------------------------------------------------------------------------


def accept(app: App, event: str, conversation_id: str) -> Handoff | None:
    """Do :meth:`HubSpotHITL.accept` for one app."""
    given: object = event
    named = _NAME.fullmatch(given) if isinstance(given, str) else None
    if named is None:
        raise ValueError("accept() needs the event that operator_started gave")
    portal_id, thread_id, event_id = named.groups()
    ledger = app.services.ledger
    with ledger.write() as tx:
        now = ledger.now_ms()
        tx.queue.reserve(lanes.thread(portal_id, thread_id), now=now)
        known = handoff_of(tx, portal_id, thread_id)
        if known is not None:
            record = tx.records.get(known)
            return record.handoff if record and record.handoff.conversation_id == conversation_id else None
        asked = tx.queue.pending_event(int(event_id))
        if asked is None or (asked.portal_id, asked.thread_id) != (portal_id, thread_id):
            return None
        limits = silence.limits(app.services.settings, None, None)
        found = _begin(tx, asked, conversation_id, limits, deployment_id=ledger.deployment_id, now=now)
    app.dispatcher.wake()
    return found


def _begin(
    tx: Transaction,
    event: Event,
    conversation_id: str,
    limits: tuple[int | None, int | None],
    *,
    deployment_id: str,
    now: int,
) -> Handoff | None:
    """Make the handoff, give it the thread and what waits there, and tell of it before the message."""
    state, told = event.state(InboundState), Told.from_json(event.payload)
    message = state.message
    if message is None or not is_asking(state):
        return None
    operator = message.operator if message.operator and message.operator.actor_id.startswith(PERSON) else None
    whom, handoff_id = addressee(told), uuid.uuid4().hex
    handoff = Handoff(
        id=handoff_id,
        conversation_id=conversation_id,
        portal_id=str(event.portal_id),
        inbox_id=state.inbox_id,
        thread_id=event.thread_id,
        state=HandoffState.ASSIGNED if operator else HandoffState.WAITING,
        contact=None if (given := contact_of(told)) is None else Contact(**given),
        name=whom.get("name"),
        operator=operator,
        opened_at=to_datetime(now),
        assigned_at=message.created_at if operator else None,
    )
    names = told.integration_threads if isinstance(told.integration_threads, list) else []
    stranger = {"type": _OPAQUE, "value": f"user-{handoff_id}"}
    record = HandoffRecord(
        handoff=handoff,
        channel_id=str(told.channel_id),
        account_id=told.account_id,
        integration_thread_id=str(names[0]) if names else f"{deployment_id}.{uuid.uuid4()}",
        sender={name: whom[name] for name in ("type", "value")} if {"type", "value"} <= whom.keys() else stranger,
        recipient=_account_identifier(told),
        idle_warning=limits[0],
        idle_timeout=limits[1],
    )
    if not tx.records.insert(record):
        raise DeliveryFailed(BUSY)
    tx.records.bind_thread(portal_id=handoff.portal_id, thread_id=str(handoff.thread_id), handoff_id=handoff_id)
    tx.adopt(lanes.signals(handoff), handoff_id=handoff_id)
    plan = [steps.step("handoff_started", handoff)]
    if operator is not None:
        plan.append(steps.step("operator_assigned", handoff, operator=operator))
    steps.put_signals(tx, handoff, plan, now=now, sort_at=0)
    return handoff


def _account_identifier(told: Told) -> dict[str, str]:
    first = next(iter(fields.mappings((told.message or {}).get("senders"))), {})
    identifier = fields.mapping(first.get("deliveryIdentifier"))
    kind, value = fields.text(identifier.get("type")), fields.text(identifier.get("value"))
    return {"type": kind, "value": value} if kind and value else {"type": _OPAQUE, "value": str(told.account_id)}
