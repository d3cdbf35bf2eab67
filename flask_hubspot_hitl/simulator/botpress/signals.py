"""The Chat integration's signals: to who listens, and one POST each to the webhook URL with a slash behind it."""

from __future__ import annotations

import json
import logging
import threading
import time

import requests

from .payloads import as_chat
from .world import JSON, BotpressWorld, current, now_ms

logger = logging.getLogger(__name__)


def send_signals(*found: JSON) -> None:
    """Deliver signals one after the other, once, without holding up who caused them. The world's lock is held."""
    world = current()  # goes on after the request
    for one in found:
        for listener in world.listeners:
            if one.get("data", {}).get("conversationId") == listener.conversation_id:
                listener.heard.put(one)
    wanted: list[JSON] = []
    for one in found[::-1] if world.switches.reorder_signals else found:
        if world.switches.drop_signals > 0:
            world.switches.drop_signals -= 1
            world.deliveries.append({"at": now_ms(), "url": world.target, "body": one, "status": None, "dropped": True})
            continue
        wanted += [one, one] if world.switches.duplicate_signals else [one]
    if world.target and wanted:
        url = world.target.rstrip("/") + "/"
        headers = {"x-secret-key": world.webhook_secret, "Content-Type": "application/json"}
        given = (world, url, headers, wanted, world.switches.signal_delay, world.generation)
        threading.Thread(target=_deliver, args=given, daemon=True).start()


def _deliver(
    world: BotpressWorld, url: str, headers: dict[str, str], found: list[JSON], delay: float, generation: int
) -> None:
    for one in found:
        if delay:
            time.sleep(delay)
        status: int | None = None
        at = now_ms()
        try:
            status = requests.post(url, data=json.dumps(one).encode(), headers=headers, timeout=10).status_code
        except requests.RequestException as error:
            logger.info("a signal was lost: %s", type(error).__name__)
        with world.lock:
            if world.generation == generation:
                entry = {"at": at, "url": url, "headers": headers, "body": one, "status": status, "answer": None}
                world.deliveries.append(entry)


def message_created(message: JSON, *, is_bot: bool) -> JSON:
    """The signal of a message."""
    return {"type": "message_created", "data": {**as_chat(message), "isBot": is_bot}}


def event_created(event: JSON, *, is_bot: bool) -> JSON:
    """The signal of a custom event; the bot's have no id."""
    return {"type": "event_created", "data": {**event, "id": None if is_bot else event["id"], "isBot": is_bot}}
