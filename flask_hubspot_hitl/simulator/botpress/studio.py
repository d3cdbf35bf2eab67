"""A bot whose flow begins with the gate snippet: it asks the service at every turn who answers, and fails open."""

from __future__ import annotations

from typing import Any

import requests

from .world import JSON, now_ms, world

TIMEOUT = 3


def ask(route: str, body: JSON) -> JSON | None:
    """One call of a snippet's; None when the service can't be asked within three seconds."""
    url = f"{world.target.rstrip('/')}/{route}"
    headers = {"Authorization": f"Bearer {world.call_secret}"}
    status: int | None = None
    at = now_ms()
    found: Any = None
    try:
        answer = requests.post(url, json=body, headers=headers, timeout=TIMEOUT)
        status = answer.status_code
        found = answer.json() if 200 <= status < 300 else None
    except (requests.RequestException, ValueError):
        found = None
    with world.lock:
        world.deliveries.append({"at": at, "url": url, "body": body, "status": status, "answer": found})
    return found if isinstance(found, dict) else None


def turn(conversation_id: str, payload: JSON, message_id: str | None) -> JSON:
    """A message of the user's: who handled it. The bot answers itself when the gate does not open."""
    with world.lock:
        incoming = message_id or world.new_id("msg")
        event_id = world.new_id("evt")
        text = str(payload.get("text") or f"[{payload.get('type')}]")
        know(conversation_id)
        if not any(one["id"] == incoming for one in world.messages):
            kind = str(payload.get("type"))
            rest = {name: value for name, value in payload.items() if name != "type"}
            world.new_message(conversation_id, "user_01", kind, rest, message_id=incoming)
    body: JSON = {"conversationId": conversation_id, "userId": "user_01", "eventId": event_id, "messageId": incoming}
    body |= {"type": str(payload.get("type")), "payload": payload, "text": text}
    found = ask("turn", body)
    handled = found is not None and found.get("handled") is True
    if not handled and "human" in text.lower():
        start(conversation_id, {"messageId": incoming, **escalation()})
    elif not handled:
        with world.lock:
            bot_says(conversation_id, f"You said: {text}")
    return {"messageId": incoming, "handled": handled, "answer": found}


def escalation() -> JSON:
    """What the escalation snippet of this bot sends along."""
    asks = world.asks
    user = {name: asks[name] for name in ("name", "email", "phone") if name in asks}
    return {"user": user, **{name: asks[name] for name in ("title", "summary", "inbox") if name in asks}}


def start(conversation_id: str, asked: JSON) -> JSON | None:
    """The escalation snippet; the bot says what the service tells it to."""
    body: JSON = {"conversationId": conversation_id, "userId": "user_01", "botId": world.bot_id, **asked}
    found = ask("start", body)
    with world.lock:
        said = (found or {}).get("message") if found else "No human is available now."
        if said:
            bot_says(conversation_id, str(said))
    return found


def bot_says(conversation_id: str, text: str) -> None:
    """The bot's own message in the user's channel."""
    know(conversation_id)
    world.new_message(conversation_id, world.bot_id, "text", {"text": text}, tags={"by": "bot"})


def know(conversation_id: str) -> None:
    """Have the conversation, as the channel of its user makes it."""
    if conversation_id not in world.conversations:
        world.new_conversation(conversation_id)
