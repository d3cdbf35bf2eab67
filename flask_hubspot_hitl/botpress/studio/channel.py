"""Tell the user in their channel what happens, and the bot of the end: the receivers of the signals."""

from __future__ import annotations

import logging
from functools import partial

from flask import Flask

from ... import signals
from ...domain import Handoff, Message, Operator, Waiting
from ...errors import DeliveryFailed
from .. import notices
from ..delivery import Delivery, Payload
from ..ended import ended_event, failed_event
from ..messages import to_botpress, without_buttons
from ..service import REFUSED, BotpressRejected, Service
from ..session import Sessions
from .api import RuntimeApi
from .memory import Memory

logger = logging.getLogger(__name__)

INCOMPATIBLE = frozenset({400, 413, 415, 422})
"""Botpress's statuses for a message that the user's channel can't show."""


class Channel:
    """Receive the signals. ``resume`` is a webhook integration of the bot's that is told of the end, or None."""

    def __init__(
        self,
        app: Flask,
        api: RuntimeApi,
        sessions: Sessions,
        memory: Memory,
        delivery: Delivery,
        *,
        resume: Service | None,
    ) -> None:
        self._api, self._sessions, self._memory, self._delivery = api, sessions, memory, delivery
        self._resume = resume
        if sessions.tells_place:
            signals.queue_changed.connect(self.tell_place, app)
        signals.operator_assigned.connect(self.tell_assigned, app)
        signals.operator_message.connect(self.relay_message, app)
        signals.conversation_completed.connect(self.tell_ended, app)
        signals.handoff_failed.connect(self.tell_failed, app)

    def tell_assigned(
        self, app: Flask, *, handoff: Handoff, operator: Operator, previous: Operator | None, **extra: object
    ) -> None:
        """Tell the user once that an agent has come, and nothing of a later one; receives ``operator_assigned``."""
        if self._sessions.is_ours(handoff) and previous is None:
            said = self._sessions.said(notices.ASSIGNED, handoff)
            self._tell(handoff, f"assigned:{handoff.id}:{handoff.assigned_at}", said)

    def tell_place(self, app: Flask, *, handoff: Handoff, waiting: Waiting, **extra: object) -> None:
        """Tell the user of their new place in the queue; receives ``queue_changed``."""
        if self._sessions.is_ours(handoff):
            self._tell(handoff, f"place:{handoff.id}:{waiting.ahead}", self._sessions.place(waiting, handoff))

    def relay_message(self, app: Flask, *, handoff: Handoff, message: Message, **extra: object) -> None:
        """Send an agent's message to the user's channel; receives ``operator_message``."""
        if not self._sessions.is_ours(handoff):
            return
        name = message.operator.name if message.operator else None
        user_id = self._webchat_user(handoff, message.operator)
        parts = to_botpress(message, prefix=f"{name}: " if name and user_id is None else "")
        if user_id is not None:
            parts = [{**part, "userId": user_id} for part in parts]
        try:
            self._send(handoff, f"message:{message.message_id}", parts)
        except BotpressRejected as error:
            if error.status not in INCOMPATIBLE:
                raise DeliveryFailed(REFUSED) from None
            text = self._sessions.said(notices.INCOMPATIBLE, handoff)
            raise DeliveryFailed(text or notices.DEFAULTS[notices.INCOMPATIBLE]) from None

    def tell_ended(self, app: Flask, *, handoff: Handoff, transcript: list[Message], **extra: object) -> None:
        """Tell the user why the handoff ended, and the bot what was said; receives ``conversation_completed``."""
        if self._sessions.is_ours(handoff):
            farewell, event = self._sessions.farewell(handoff), ended_event(handoff, transcript)
            self._end(handoff, f"ended:{handoff.id}:{handoff.closed_at}", farewell, event)

    def tell_failed(self, app: Flask, *, handoff: Handoff, **extra: object) -> None:
        """Tell the user and the bot that no agent will come; receives ``handoff_failed``."""
        if self._sessions.is_ours(handoff):
            said = self._sessions.said(notices.TIMED_OUT, handoff)
            self._end(handoff, f"failed:{handoff.id}", said, failed_event(handoff.id))

    def _end(self, handoff: Handoff, key: str, text: str, event: Payload) -> None:
        """Keep for the next turn what the bot should know, tell the user, and the webhook integration."""
        keep = partial(self._memory.keep_ended, handoff.conversation_id)
        self._delivery.send(f"{key}:context", [event], keep)
        self._tell(handoff, key, text)
        resume = self._resume
        if resume is None:
            return
        body = {**event, "conversationId": handoff.conversation_id, "userId": handoff.attributes.get("user_id")}

        def tell(part: Payload) -> None:
            resume.call("POST", "", doing="telling the bot that the session ended", body=part)

        try:
            self._delivery.send(f"{key}:resume", [body], tell)
        except BotpressRejected as error:
            logger.warning(
                "Botpress refuses the end of a session (%s); the bot learns it with the user's next message", error
            )

    def _tell(self, handoff: Handoff, key: str, text: str) -> None:
        """Send a text of ours; one that is refused holds up nothing that an agent says."""
        if not text:
            return
        try:
            self._send(handoff, key, [{"type": "text", "text": text}])
        except BotpressRejected as error:
            logger.warning("Botpress refuses a notice for a user (%s); it is left out", error)

    def _send(self, handoff: Handoff, key: str, parts: list[Payload]) -> None:
        """Create messages as the bot; Botpress has no idempotency key, so one in doubt is looked for first."""

        def create(part: Payload) -> str | None:
            try:
                return self._api.send(handoff.conversation_id, part)
            except BotpressRejected as error:
                if part["type"] != "choice" or error.status not in INCOMPATIBLE:
                    raise
                return self._api.send(handoff.conversation_id, without_buttons(part))

        find = partial(self._api.find, handoff.conversation_id)
        self._delivery.send(key, parts, create, to=handoff.id, find=find)

    def _webchat_user(self, handoff: Handoff, operator: Operator | None) -> str | None:
        """Return the webchat user with the agent's name and face; None in other channels: the name is in the text."""
        if handoff.attributes.get("integration") != "webchat" or operator is None or operator.name is None:
            return None
        known = self._memory.webchat_user(handoff.id, operator.actor_id)
        if known is None:
            known = self._api.webchat_user(handoff.conversation_id, operator)
            if known is not None:
                self._memory.keep_webchat_user(handoff.id, operator.actor_id, known)
        return known
