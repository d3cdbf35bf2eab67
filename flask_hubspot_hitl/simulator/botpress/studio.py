"""A bot whose flow begins with the gate snippet: it asks the service at every turn who answers, and fails open."""

from __future__ import annotations

from typing import Any

import requests

from .world import JSON, BotpressWorld, now

TIMEOUT = 3


def ask(bot_world: BotpressWorld, route: str, body: JSON) -> JSON | None:
    """One call of a snippet's; None when the service can't be asked within three seconds."""
    url = f"{bot_world.target.rstrip('/')}/{route}"
    headers = {"Authorization": f"Bearer {bot_world.call_secret}"}
    status: int | None = None
    found: Any = None
    try:
        answer = requests.post(url, json=body, headers=headers, timeout=TIMEOUT)
        status = answer.status_code
        found = answer.json() if 200 <= status < 300 else None
    except (requests.RequestException, ValueError):
        found = None
    with bot_world.lock:
        bot_world.deliveries.append({"url": url, "body": body, "status": status, "answer": found})
    return found if isinstance(found, dict) else None


def turn(bot_world: BotpressWorld, conversation_id: str, payload: JSON, message_id: str | None) -> JSON:
    """A message of the user's: who handled it. The bot answers itself when the gate does not open."""
    with bot_world.lock:
        incoming = message_id or bot_world.new_id("msg")
        event_id = bot_world.new_id("evt")
        text = str(payload.get("text") or f"[{payload.get('type')}]")
        if not any(one["id"] == incoming for one in bot_world.messages):
            message: JSON = {
                "id": incoming,
                "createdAt": now(),
                "updatedAt": now(),
                "direction": "incoming",
                "tags": {},
            }
            message |= {"conversationId": conversation_id, "userId": "user_01"}
            message |= {"type": payload.get("type"), "payload": payload}
            bot_world.messages.append(message)
    body: JSON = {"conversationId": conversation_id, "userId": "user_01", "eventId": event_id, "messageId": incoming}
    body |= {"type": str(payload.get("type")), "payload": payload, "text": text}
    found = ask(bot_world, "turn", body)
    handled = found is not None and found.get("handled") is True
    if not handled:
        with bot_world.lock:
            bot_says(bot_world, conversation_id, f"You said: {text}")
    return {"messageId": incoming, "handled": handled, "answer": found}


def start(bot_world: BotpressWorld, conversation_id: str, asked: JSON) -> JSON | None:
    """The escalation snippet; the bot says what the service tells it to."""
    body: JSON = {"conversationId": conversation_id, "userId": "user_01", "botId": bot_world.bot_id, **asked}
    found = ask(bot_world, "start", body)
    with bot_world.lock:
        said = (found or {}).get("message") if found else "No human is available now."
        if said:
            bot_says(bot_world, conversation_id, str(said))
    return found


def bot_says(bot_world: BotpressWorld, conversation_id: str, text: str) -> None:
    """The bot's own message in the user's channel."""
    message: JSON = {"id": bot_world.new_id("msg"), "createdAt": now(), "updatedAt": now(), "direction": "outgoing"}
    message |= {"conversationId": conversation_id, "userId": bot_world.bot_id, "tags": {"by": "bot"}}
    message |= {"type": "text", "payload": {"text": text}}
    bot_world.messages.append(message)
