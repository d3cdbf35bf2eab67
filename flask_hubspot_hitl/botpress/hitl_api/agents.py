"""Tell Botpress that an agent joins, writes, closes; it drops what comes before it has linked its conversations."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask

from ... import signals
from ...domain import Handoff, Message, Operator
from ...errors import DeliveryDelayed, DeliveryFailed
from ...ledger import Ledger
from ..delivery import Delivery, Payload
from ..keys import Probe
from ..messages import to_botpress
from ..service import REFUSED, BotpressRejected, Service
from ..session import is_ours
from .tickets import NAME, Tickets, stop_key

logger = logging.getLogger(__name__)

ACTIVE_MS = 3_000
"""Milliseconds that Botpress takes to link its conversations; nothing tells when it has."""
BY_BOTPRESS = "Botpress ended it"
"""The ``detail`` of a handoff whose end Botpress knows."""
PROBE = Probe(path="", settings="HUBSPOT_HITL_BOTPRESS_WEBHOOK_URL", refusals=frozenset({401, 403}))
"""Tells whether Botpress refuses whatever is sent to the integration's URL, whose id is the key; the integration itself
answers 400 or 404 to it.
"""
UNTITLED = frozenset({"image", "audio", "video"})
"""Types whose payloads had no title when the integration was built."""


class Agents:
    """Receive the signals."""

    def __init__(self, app: Flask, ledger: Ledger, botpress: Service, tickets: Tickets, delivery: Delivery) -> None:
        self._ledger, self._botpress, self._tickets, self._delivery = ledger, botpress, tickets, delivery
        signals.operator_assigned.connect(self.agent_assigned, app)
        signals.operator_message.connect(self.message_from_agent, app)
        signals.conversation_completed.connect(self.stop_hitl, app)
        signals.handoff_failed.connect(self.stop_hitl, app)

    def agent_assigned(self, app: Flask, *, handoff: Handoff, operator: Operator, **extra: object) -> None:
        """Tell Botpress that an agent has joined; receives ``operator_assigned``."""
        if not is_ours(handoff, NAME):
            return
        self._wait_until_active(_made_at(handoff))
        key = f"assigned:{handoff.id}:{handoff.assigned_at}:{operator.actor_id}"
        try:
            self._delivery.send(key, [_named(handoff, operator)], lambda body: self._call("agent-assigned", body))
        except BotpressRejected as error:
            logger.warning("Botpress refuses the news of an agent (%s); the user is not told of them", error)

    def message_from_agent(self, app: Flask, *, handoff: Handoff, message: Message, **extra: object) -> None:
        """Send an agent's text and files to Botpress, each once and by itself; receives ``operator_message``."""
        if not is_ours(handoff, NAME):
            return
        self._wait_until_active(_made_at(handoff))
        with self._ledger.read() as tx:
            session = self._tickets.session(tx, handoff.conversation_id)
        if session is None or session.state == "closed":  # Botpress would drop it without a word
            raise DeliveryFailed("The user is with the bot again.")

        def tell(part: Payload) -> None:
            without = {"type", "title"} if part["type"] in UNTITLED else {"type"}
            payload = {name: value for name, value in part.items() if name not in without}
            body = {**_named(handoff, message.operator), "messageType": part["type"], "payload": payload}
            self._call("message-from-agent", body)

        try:
            self._delivery.send(f"message:{message.message_id}", to_botpress(message, with_buttons=False), tell)
        except BotpressRejected:
            raise DeliveryFailed(REFUSED) from None

    def stop_hitl(self, app: Flask, *, handoff: Handoff, **extra: object) -> None:
        """Tell Botpress that the session has ended, unless its own user ended it.

        Receives ``conversation_completed`` and ``handoff_failed``.
        """
        if not is_ours(handoff, NAME):
            return
        is_known = handoff.detail == BY_BOTPRESS
        with self._ledger.write() as tx:
            if is_known:
                self._tickets.forget(tx, handoff.conversation_id)
            else:
                self._tickets.stopping(tx, handoff.conversation_id)
        if not is_known:
            self.tell_stopped(handoff.conversation_id, _made_at(handoff))

    def tell_stopped(self, session_id: str, made_at: int) -> None:
        """Tell Botpress once that the humans have ended, or never came; ``made_at`` (epoch ms) began the session."""
        self._wait_until_active(made_at)
        body = {"remoteConversationId": session_id}
        self._delivery.send(stop_key(session_id), [body], lambda part: self._call("stop-hitl", part))

    def _call(self, route: str, body: dict[str, Any]) -> None:
        self._botpress.call("POST", f"/{route}", doing=f"telling Botpress {route}", body=body)

    def _wait_until_active(self, made_at: int) -> None:
        left = made_at + ACTIVE_MS - self._ledger.now_ms()
        if left > 0:
            raise StillLinking("Botpress is still linking the conversations", retry_after=left / 1000)


class StillLinking(DeliveryDelayed):
    """Say that Botpress would not know the session yet."""

    is_failure = False
    is_planned = True


def _made_at(handoff: Handoff) -> int:
    return int(handoff.attributes.get("made_at", 0))


def _named(handoff: Handoff, operator: Operator | None) -> dict[str, str]:
    """Return the ids of a call: an agent's, never the user's, to whom Botpress would credit the message."""
    return {
        "remoteConversationId": handoff.conversation_id,
        "remoteUserId": f"agent_{operator.actor_id if operator else 'unknown'}",
    }
