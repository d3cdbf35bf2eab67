"""Call Botpress's Chat API as the host does: users by keys that we sign, their conversations, messages and events.

No database. Source: docs/botpress.rst (Chat API basics; Chat API calls).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from ..delivery import Payload
from ..keys import Probe
from ..service import BotpressUnavailable, Service
from ..session import id_of, other_than

_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,70}")


def user_key(user_id: str, encryption_key: str) -> str:
    """Sign the ``x-user-key`` of a user: a JWT, HS256, ``{"id": …}``."""

    def part(value: object) -> bytes:
        raw = json.dumps(value, separators=(",", ":")).encode() if not isinstance(value, bytes) else value
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part({"id": user_id})
    return (signed + b"." + part(hmac.digest(encryption_key.encode(), signed, "sha256"))).decode("ascii")


def botpress_id(user_id: str) -> str:
    """Return the host's user id, or its digest when Botpress would not take it: other characters, or too long."""
    if _SAFE_ID.fullmatch(user_id):
        return user_id
    return f"u_{hashlib.sha256(user_id.encode()).hexdigest()[:40]}"


def probe_of(encryption_key: str) -> Probe:
    """Return what tells whether the key is right: Botpress answers 401, or that there is no such user."""
    headers = {"x-user-key": user_key("hubspot_hitl_probe", encryption_key)}
    return Probe(path="/users/me", headers=headers, settings="HUBSPOT_HITL_BOTPRESS_ENCRYPTION_KEY")


class ChatApi:
    """Make every call as one of the host's users, named by the host's id; errors are those of ``service``."""

    def __init__(self, service: Service, encryption_key: str) -> None:
        self._service = service
        self._key = encryption_key

    def put_user(self, user_id: str, profile: Payload) -> None:
        """Make the user, or change ``name``, ``pictureUrl`` and ``profile``."""
        self._call("POST", "/users/get-or-create", user_id, profile)

    def new_conversation(self, user_id: str) -> str:
        """Make a conversation with the bot and return its id; Botpress chooses it, so that all its APIs know it."""
        found = self._call("POST", "/conversations", user_id, {}).get("conversation") or {}
        conversation_id = found.get("id")
        if not isinstance(conversation_id, str) or not conversation_id:
            raise BotpressUnavailable("making a conversation: Botpress gave it no id")
        return conversation_id

    def say(self, user_id: str, conversation_id: str, payload: Payload, **more: Any) -> str | None:
        """Send a message in the user's name, and return its id."""
        body = {"conversationId": conversation_id, "payload": payload, **more}
        return id_of(self._call("POST", "/messages", user_id, body).get("message"))

    def send_event(self, user_id: str, conversation_id: str, event: Payload) -> None:
        """Send a custom event to the bot."""
        self._call("POST", "/events", user_id, {"conversationId": conversation_id, "payload": event})

    def messages(self, user_id: str, conversation_id: str, *, limit: int = 20) -> list[dict[str, Any]]:
        """Return the newest messages of a conversation, newest first: whole pages, until there are ``limit``."""
        path = f"/conversations/{quote(conversation_id, safe='')}/messages"
        messages: list[dict[str, Any]] = []
        token: object = ""
        while isinstance(token, str) and len(messages) < limit:
            answer = self._call("GET", path + (f"?nextToken={quote(token, safe='')}" if token else ""), user_id)
            found, meta = answer.get("messages"), answer.get("meta")
            page = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
            messages += page
            token = meta.get("nextToken") if isinstance(meta, dict) and page else None
        return messages

    def find(
        self, user_id: str, conversation_id: str, part: Payload, since: int, others: Collection[str]
    ) -> str | None:
        """Return the id of the newest message that is this one of the user's, sent at ``since`` (epoch ms) or later.

        :param others: the ids of messages that are others.
        """
        mine = (one for one in self.messages(user_id, conversation_id) if one.get("userId") == botpress_id(user_id))
        return other_than(others, (one for one in mine if one.get("payload") == part), since)

    def _call(self, method: str, path: str, user_id: str, body: Payload | None = None) -> dict[str, Any]:
        headers = {"x-user-key": user_key(botpress_id(user_id), self._key)}
        return self._service.call(method, path, doing="asking Botpress's Chat API", body=body, headers=headers)
