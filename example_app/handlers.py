"""What the agents in HubSpot do, written into the chat. Every write has a key, so a repeated signal changes nothing."""

from __future__ import annotations

from typing import Any

from flask import Flask

from flask_hubspot_hitl import CloseReason, Handoff, Message, Operator, Waiting, signals

from .store import File, get_store


def assigned(app: Flask, *, handoff: Handoff, operator: Operator, **extra: Any) -> None:
    """An agent took the conversation."""
    said = f"{operator.name or 'Somebody'} joined the chat."
    get_store().add(handoff.conversation_id, f"assigned:{handoff.id}:{handoff.assigned_at}", "system", said)


def message(app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
    """An agent wrote. Raising DeliveryFailed("why") here would show the agent why it did not arrive."""
    name = message.operator.name if message.operator else None
    files = [File(one.name or "file", one.url or "", one.file_id or "") for one in message.attachments]
    key = f"agent:{message.message_id}"
    get_store().add(handoff.conversation_id, key, "agent", message.text, name=name or "Our team", files=files)


def moved(app: Flask, *, handoff: Handoff, waiting: Waiting, **extra: Any) -> None:
    """The user's place in the queue is another one."""
    get_store().stand(handoff.conversation_id, ahead=waiting.ahead, estimate=waiting.estimate)


def completed(app: Flask, *, handoff: Handoff, reason: CloseReason, **extra: Any) -> None:
    """The conversation is the bot's again."""
    said = "You ended the chat." if reason is CloseReason.USER else "The chat with our team was completed."
    get_store().add(handoff.conversation_id, f"completed:{handoff.id}:{handoff.closed_at}", "system", said)
    get_store().stand(handoff.conversation_id, may_rate=handoff.assigned_at is not None)


def failed(app: Flask, *, handoff: Handoff, **extra: Any) -> None:
    """Nobody can take the conversation."""
    said = "Sorry, our team can't be reached now. I will try to help you myself."
    get_store().add(handoff.conversation_id, f"failed:{handoff.id}", "bot", said)


def lost(app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
    """A message of the user's will not reach the agents."""
    said = f"Our team did not get this message: {message.text}"
    get_store().add(handoff.conversation_id, f"lost:{message.message_id}", "system", said)


def connect(app: Flask) -> None:
    """Connect the handlers, for this app only."""
    signals.operator_assigned.connect(assigned, app)
    signals.operator_message.connect(message, app)
    signals.queue_changed.connect(moved, app)
    signals.conversation_completed.connect(completed, app)
    signals.handoff_failed.connect(failed, app)
    signals.message_failed.connect(lost, app)
