"""What the bot does: it echoes, calls for a human when the user does, and greets who comes back."""

from __future__ import annotations

from .signals import event_created, message_created, send_signals
from .world import JSON, world

CONNECTING = "Connecting you…"
WELCOME = "Welcome back"


def say(conversation_id: str, text: str) -> JSON:
    """A message of the bot's."""
    return world.new_message(conversation_id, world.bot_id, "text", {"text": text})


def heard(message: JSON) -> None:
    """The bot's turn after a user's message: signals go out in order, the echo first."""
    conversation_id = message["conversationId"]
    text = str(message["payload"].get("text", ""))
    found = [message_created(message, is_bot=False)]
    if "human" in text.lower():
        found.append(message_created(say(conversation_id, CONNECTING), is_bot=True))
        found.append(event_created(custom_event(conversation_id, ask()), is_bot=True))
        world.with_human.add(conversation_id)
        if world.switches.chatty:
            found.append(message_created(say(conversation_id, "Are you still there?"), is_bot=True))
    else:
        found.append(message_created(say(conversation_id, f"You said: {text}"), is_bot=True))
    send_signals(*found)


def told(event: JSON) -> None:
    """The bot's turn after a custom event of the host's."""
    found = [event_created(event, is_bot=False)]
    if event["payload"].get("kind") == "hitl.ended":
        world.with_human.discard(event["conversationId"])
        found.append(message_created(say(event["conversationId"], WELCOME), is_bot=True))
    send_signals(*found)


def ask() -> JSON:
    """The custom event that the card in Studio sends."""
    return {"kind": "hitl.start", "v": 1, **world.asks}


def custom_event(conversation_id: str, payload: JSON, user_id: str | None = None) -> JSON:
    """A custom event in a conversation."""
    return world.new_event(conversation_id, user_id or world.bot_id, payload)
