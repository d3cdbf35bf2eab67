"""What the bot does: it echoes, calls for a human when the user does, and greets who comes back."""

from __future__ import annotations

from .signals import event_created, message_created, send_signals
from .world import JSON, BotpressWorld, now

CONNECTING = "Connecting you…"
WELCOME = "Welcome back"


def say(world: BotpressWorld, conversation_id: str, text: str) -> JSON:
    """A message of the bot's."""
    message: JSON = {
        "id": world.new_id("msg"),
        "createdAt": now(),
        "userId": world.bot_id,
        "conversationId": conversation_id,
        "payload": {"type": "text", "text": text},
    }
    world.messages.append(message)
    return message


def heard(world: BotpressWorld, message: JSON) -> None:
    """The bot's turn after a user's message: signals go out in order, the echo first."""
    conversation_id = message["conversationId"]
    text = str(message["payload"].get("text", ""))
    found = [message_created(message, is_bot=False)]
    if "human" in text.lower():
        found.append(message_created(say(world, conversation_id, CONNECTING), is_bot=True))
        found.append(event_created(custom_event(world, conversation_id, ask(world)), is_bot=True))
        world.with_human.add(conversation_id)
        if world.switches.chatty:
            found.append(message_created(say(world, conversation_id, "Are you still there?"), is_bot=True))
    else:
        found.append(message_created(say(world, conversation_id, f"You said: {text}"), is_bot=True))
    send_signals(world, *found)


def told(world: BotpressWorld, event: JSON) -> None:
    """The bot's turn after a custom event of the host's."""
    found = [event_created(event, is_bot=False)]
    if event["payload"].get("kind") == "hitl.ended":
        world.with_human.discard(event["conversationId"])
        found.append(message_created(say(world, event["conversationId"], WELCOME), is_bot=True))
    send_signals(world, *found)


def ask(world: BotpressWorld) -> JSON:
    """The custom event that the card in Studio sends."""
    return {"kind": "hitl.start", "v": 1, **world.asks}


def custom_event(world: BotpressWorld, conversation_id: str, payload: JSON, user_id: str | None = None) -> JSON:
    """A custom event in a conversation."""
    event: JSON = {
        "id": world.new_id("evt"),
        "createdAt": now(),
        "userId": user_id or world.bot_id,
        "conversationId": conversation_id,
        "payload": payload,
    }
    world.events[event["id"]] = event
    return event
