"""Serve the routes that code cards in Studio call: which side answers the user, open a handoff, end it, tell agents.

Each answers in under two seconds, whatever HubSpot does: what can't be done at once is in the ledger.
"""

from __future__ import annotations

import logging
from typing import Any

from flask.typing import ResponseReturnValue

from ...errors import HITLError, LedgerUnavailable, NobodyAvailable
from ...handoffs import verbs
from ...hubspot.transport import deadline
from ...runtime import Runtime
from .. import notices
from ..door import Refused, text_of
from ..messages import MEDIA, to_agent
from ..relay import Relay
from ..session import CANNOT_HAND_OVER, NOT_READ, Sessions, contact_of, meta_of
from .api import RuntimeApi
from .memory import Memory

logger = logging.getLogger(__name__)

START_SECONDS = 1.5
"""Seconds that ``start`` may take in all; a handoff that HubSpot has not taken by then is opened later."""
HISTORY_SECONDS = 0.5
"""Seconds of these that reading the conversation before the handoff may take."""
MESSAGE_TYPES = frozenset(MEDIA) | {"text", "markdown", "location", "card", "carousel", "choice", "dropdown", "bloc"}


class Gate:
    """Serve the views. All they have to know of a session is in the handoff's attributes."""

    def __init__(self, runtime: Runtime, relay: Relay, api: RuntimeApi, sessions: Sessions, memory: Memory) -> None:
        self._runtime, self._ledger = runtime, runtime.ledger
        self._relay, self._api, self._sessions, self._memory = relay, api, sessions, memory
        relay.add("timeout", sessions.timeout)

    def start(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Open a handoff. A turn that Studio replays opens nothing: its ``messageId`` is known."""
        conversation_id = text_of(body, "conversationId", required=True)
        message_id = text_of(body, "messageId")
        user: dict[str, Any] = body["user"] if isinstance(body.get("user"), dict) else {}
        overrides = notices.known(body.get("messages"), body.get("language"))
        with self._ledger.read() as tx:
            newest = tx.records.newest_of(conversation_id)
        if newest is not None:
            handoff = newest.handoff
            if handoff.is_open or (message_id and handoff.attributes.get("message_id") == message_id):
                status = "open" if handoff.is_open else "closed"
                said = self._sessions.said(notices.HANDOFF, handoff)
                return {"status": status, "session": handoff.id, "message": said}
        asked: dict[str, Any] = {
            "contact": contact_of(text_of(user, "email"), text_of(user, "phone")),
            "name": text_of(user, "name") or None,
            "title": text_of(body, "title", limit=10_000) or None,
            "description": text_of(body, "summary", limit=100_000) or None,
            "inbox_id": text_of(body, "inbox") or None,
            "require_available": body.get("requireAvailable"),
        }
        facts = {"message_id": message_id, "user_id": text_of(body, "userId"), **meta_of(body)}
        facts["integration"] = text_of(body, "integration")
        try:
            with deadline(START_SECONDS):
                history, is_whole = self._api.history(conversation_id, seconds=HISTORY_SECONDS)
                if not is_whole:
                    logger.info("Botpress's older messages could not be read in time; the agent sees only the newest")
                    history.insert(0, NOT_READ)
                handoff = self._sessions.open(conversation_id, overrides, facts, history=history, **asked)
        except LedgerUnavailable:
            raise
        except NobodyAvailable as nobody:
            opens_at = nobody.opens_at and nobody.opens_at.isoformat()
            return {"status": "unavailable", "message": self._sessions.nobody(nobody, overrides), "opensAt": opens_at}
        except (HITLError, ValueError) as error:
            logger.warning(CANNOT_HAND_OVER, type(error).__name__)
            return {"status": "failed", "message": self._sessions.said(notices.TIMED_OUT, overrides)}
        with self._ledger.write() as tx:
            self._sessions.watch(tx, self._relay, handoff, body.get("assignmentTimeout"), now=self._ledger.now_ms())
        self._relay.wake()
        told = [self._sessions.said(notices.HANDOFF, handoff)]
        if self._sessions.tells_place:
            place = verbs.waiting(self._runtime, conversation_id)
            told += [self._sessions.place(place, handoff)] if place is not None and place.ahead else []
        return {"status": "open", "session": handoff.id, "message": "\n".join(filter(None, told))}

    def turn(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Take a message of the user's and say whether the agent has it; the same turn again is the same message.

        Whatever its type, what has a ``messageId`` is a message.
        """
        conversation_id = text_of(body, "conversationId", required=True)
        message_id = text_of(body, "messageId")
        key = message_id or text_of(body, "eventId", required=True)
        given = body.get("payload")
        payload: dict[str, Any] = given if isinstance(given, dict) else {}
        kind = text_of(body, "type")
        text = text_of(body, "text", limit=1_000_000)
        is_known = kind in MESSAGE_TYPES
        if not (is_known or text or message_id):  # an event, and no message of the user's
            with self._ledger.read() as tx:
                return {"handled": tx.records.open_of(conversation_id) is not None}
        if text and not (is_known and payload):
            payload = {**{name: payload[name] for name in MEDIA.values() if name in payload}, "text": text}
        said = to_agent({**payload, "type": kind or "text"})
        if self._sessions.ends(conversation_id, said.text, key) or verbs.send(
            self._runtime, conversation_id, said.text, attachments=said.files, message_id=key
        ):
            return {"handled": True}
        context = self._memory.take_ended(conversation_id, key)
        return {"handled": False, "context": context} if context else {"handled": False}

    def note(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Tell the agents what the bot notes or proposes; do nothing without a handoff."""
        conversation_id = text_of(body, "conversationId", required=True)
        text = text_of(body, "text", required=True, limit=verbs.NOTE_LIMIT)
        try:
            return {"noted": verbs.note(self._runtime, conversation_id, text, draft=body.get("draft") is True)}
        except ValueError as error:
            raise Refused(400, str(error)) from None

    def stop(self, body: dict[str, Any]) -> ResponseReturnValue:
        """End the handoff for the bot; do nothing without one."""
        conversation_id = text_of(body, "conversationId", required=True)
        detail = text_of(body, "reason") or "the bot ended it"
        verbs.stop(self._runtime, conversation_id, reason="user", detail=detail)
        return {"status": "closed"}
