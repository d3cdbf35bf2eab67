"""ChatBridge: the user's channel is this app's page; a Botpress bot answers, until it calls for a human."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Flask

from flask_hubspot_hitl import Attachment
from flask_hubspot_hitl.botpress.chat import ChatBridge, ChatUser

from ..extensions import hitl
from ..store import File, get_store


def show(user: ChatUser, payload: dict[str, Any], *, author: str, message_id: str, **extra: Any) -> None:
    """Show the user what the bot, an agent or the bridge says. It may run twice: the key makes it one line."""
    url = next((value for name, value in payload.items() if name.endswith("Url")), None)
    files = [File(payload.get("title") or "file", url)] if url else []
    text = payload.get("text") or payload.get("markdown") or ("" if files else f"[{payload['type']}]")
    speaker = "agent" if author == "operator" else author
    get_store().add(user.id, f"show:{message_id}", speaker, text, name=extra["name"] or "", files=files)


def say(user: ChatUser, text: str, files: Sequence[Attachment], message_id: str) -> None:
    """The user has written: to the agent or to the bot. Bytes are for agents only; the bot gets the file's name."""
    if not (files and hitl.send(user.id, text, attachments=files, message_id=message_id)):
        bridge.user_message(user, text or f"[{files[0].name}]", message_id=message_id)


bridge = ChatBridge(hitl, on_message=show)


def connect(app: Flask) -> None:
    """Switch the bridge on, and have the page's messages go through it."""
    bridge.init_app(app)
    app.extensions["chat_say"], app.extensions["chat_read"] = say, bridge.mark_read
