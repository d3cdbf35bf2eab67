"""Call Botpress's Runtime API as the bot does: a conversation's messages, and an agent's face in webchat.

No database. Source: docs/botpress.rst (Runtime basics; Runtime calls).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ...domain import Operator
from ...hubspot.transport import deadline
from ..delivery import Payload
from ..keys import Probe
from ..service import BotpressRejected, BotpressUnavailable, Service
from ..session import HISTORY, history_of, id_of, other_than

MESSAGES = "/v1/chat/messages"
PROBE = Probe(
    path="/v1/chat/conversations",
    settings="HUBSPOT_HITL_BOTPRESS_TOKEN and HUBSPOT_HITL_BOTPRESS_BOT_ID",
    refusals=frozenset({401, 403}),
)
"""Tells whether the token is right, and the bot's; it reads a page of conversations."""


class RuntimeApi:
    """Make every call as the bot; errors are those of ``service``."""

    def __init__(self, service: Service, bot_id: str) -> None:
        self._service = service
        self._bot_id = bot_id

    def send(self, conversation_id: str, part: Payload) -> str | None:
        """Send a message of the bot's, and return its id; ``part`` is a payload with its ``type``."""
        body = {"conversationId": conversation_id, "userId": self._bot_id, "type": part["type"]}
        body |= {"payload": _inner(part), "tags": {}}
        return id_of(self._service.call("POST", MESSAGES, doing="sending to Botpress", body=body).get("message"))

    def find(self, conversation_id: str, part: Payload, since: int, others: Collection[str]) -> str | None:
        """Return the id of the newest message that is this one of the bot's, sent at ``since`` (epoch ms) or later.

        :param others: the ids of messages that are others.
        """
        same = (
            one
            for one in self._page(conversation_id)[0]
            if one.get("direction") == "outgoing"
            and one.get("type") == part["type"]
            and _inner(part).items() <= (one.get("payload") or {}).items()
        )
        return other_than(others, same, since)

    def history(self, conversation_id: str, *, seconds: float) -> tuple[list[Any], bool]:
        """Read what has been said, oldest first, for a number of seconds.

        :returns: the messages, and True; what could be read in this time, and False when some are missing.
        """
        messages: list[dict[str, Any]] = []
        token: object = ""
        is_whole = True
        try:
            with deadline(seconds):
                while isinstance(token, str) and len(messages) < HISTORY:
                    page, token = self._page(conversation_id, token)
                    messages += page
        except (BotpressUnavailable, BotpressRejected):
            is_whole = False
        return history_of(messages[:HISTORY], lambda one: one.get("direction") == "incoming"), is_whole

    def webchat_user(self, conversation_id: str, operator: Operator) -> str | None:
        """Make a webchat user with the agent's name and picture, and return its id; None when Botpress refuses."""
        given = {"name": operator.name, "pictureUrl": operator.avatar, "email": operator.email}
        user = {"id": operator.actor_id, "conversationId": conversation_id}
        asked = {**{name: value for name, value in given.items() if value}, "user": user}
        try:
            body = {"type": "webchat:getOrCreateUser", "input": asked}
            found = self._service.call("POST", "/v1/chat/actions", doing="introducing an agent", body=body)
        except (BotpressRejected, BotpressUnavailable):
            return None
        output = found.get("output")
        user_id = output.get("userId") if isinstance(output, dict) else None
        return user_id if isinstance(user_id, str) and user_id else None

    def _page(self, conversation_id: str, token: str = "") -> tuple[list[dict[str, Any]], object]:
        """Return a page of a conversation's messages, newest first, and the token of the next one."""
        asked = {"conversationId": conversation_id, **({"nextToken": token} if token else {})}
        answer = self._service.call("GET", MESSAGES, doing="reading from Botpress", params=asked)
        found, meta = answer.get("messages"), answer.get("meta")
        messages = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        return messages, meta.get("nextToken") if isinstance(meta, dict) and messages else None


def _inner(part: Payload) -> Payload:
    """Return the payload as this API has it, beside its type."""
    return {name: value for name, value in part.items() if name != "type"}
