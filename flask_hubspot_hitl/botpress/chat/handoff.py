"""Carry out the handoff between the bot and the agents: what opens and ends it, and what agents say and do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Flask

from ... import signals
from ...dispatch.tasks import Dead, Done, Outcome
from ...domain import Handoff, Message, Operator, Waiting
from ...errors import HITLError, LedgerUnavailable, NobodyAvailable
from ...handoffs import rules, verbs
from ...ledger import Event, Transaction
from .. import notices
from ..delivery import Payload
from ..ended import ended_event, failed_event, unavailable_event
from ..messages import to_botpress
from ..relay import Told
from ..service import BotpressRejected, BotpressUnavailable
from ..session import CANNOT_HAND_OVER, HISTORY, NOT_READ, contact_of, history_of, meta_of
from .api import botpress_id
from .from_bot import FromBot
from .from_user import FromUser
from .shared import Part, Shared

logger = logging.getLogger(__name__)

RESUMED = "( The human agent has left. )"
"""Text that the bot is told in the user's name, with ``resume="message"``."""


class Handoffs(Part):
    """Handle the bot's calls for a human, and receive the signals. ``resume``: how the bot learns of the end."""

    def __init__(self, shared: Shared, from_bot: FromBot, from_user: FromUser, *, resume: str) -> None:
        super().__init__(shared)
        self._from_bot, self._from_user = from_bot, from_user
        self._resume = resume
        shared.relay.add("start", self._start, lost=self._not_started)
        shared.relay.add("stop", self._stop, lost=self._stopped)
        shared.relay.add("note", self._note)
        shared.relay.add("timeout", shared.sessions.timeout)
        if shared.sessions.tells_place:
            signals.queue_changed.connect(self.tell_place, shared.app)
        signals.operator_assigned.connect(self.tell_assigned, shared.app)
        signals.operator_message.connect(self.show_message, shared.app)
        signals.conversation_completed.connect(self.tell_ended, shared.app)
        signals.handoff_failed.connect(self.tell_failed, shared.app)
        signals.message_failed.connect(self.give_back, shared.app)

    # From the bot ----------------------------------------------------------------------------------------

    def _start(self, event: Event, told: Told) -> Outcome:
        user_id, asked = told.key, told.payload
        with self._ledger.read() as tx:
            user = self._users.known(tx, user_id)
        overrides = notices.known(asked.get("messages"), asked.get("language"))
        try:
            handoff = self._sessions.open(
                user_id,
                overrides,
                meta_of(asked),
                contact=contact_of(_text(asked, "email"), _text(asked, "phone")) or user.get("contact"),
                name=_text(asked, "name") or user.get("name"),
                title=_text(asked, "title") or None,
                description=_text(asked, "summary") or _text(asked, "description") or None,
                history=self._history(user_id, user.get("conversation")),
                inbox_id=_text(asked, "inbox") or None,
                require_available=asked.get("requireAvailable"),
            )
        except LedgerUnavailable:
            raise
        except NobodyAvailable as nobody:
            said, ended = self._sessions.nobody(nobody, overrides), unavailable_event(nobody.opens_at)
            return Done(lambda tx: self._tell_not_started(tx, event, told, said, ended))
        except (HITLError, ValueError) as error:
            logger.warning(CANNOT_HAND_OVER, type(error).__name__)
            return Done(lambda tx: self._not_started(tx, event, told))
        place = verbs.waiting(self._runtime, user_id) if self._sessions.tells_place else None
        return Done(lambda tx: self._started(tx, handoff, overrides, asked.get("assignmentTimeout"), place))

    def _started(
        self,
        tx: Transaction,
        handoff: Handoff,
        overrides: Mapping[str, str],
        seconds: object,
        place: Waiting | None,
    ) -> None:
        user_id, now = handoff.conversation_id, self._ledger.now_ms()
        said = self._sessions.said(notices.HANDOFF, overrides)
        self._from_bot.put_notice(tx, user_id, f"handoff:{handoff.id}", said)
        if place is not None and place.ahead:
            self._from_bot.put_notice(tx, user_id, _place_key(handoff, place), self._sessions.place(place, handoff))
        self._sessions.watch(tx, self._relay, handoff, seconds, now=now)
        self._users.count(tx, user_id, starts=-1)

    def _not_started(self, tx: Transaction, event: Event, told: Told) -> None:
        overrides = notices.known(told.payload.get("messages"), told.payload.get("language"))
        said = self._sessions.said(notices.TIMED_OUT, overrides)
        self._tell_not_started(tx, event, told, said, failed_event(""))

    def _tell_not_started(self, tx: Transaction, event: Event, told: Told, said: str, ended: Payload) -> None:
        user_id, key = told.key, f"failed:{event.id}"
        self._from_bot.put_notice(tx, user_id, key, said)
        self._from_user.put_event(tx, user_id, ended, key=f"{key}:bot")
        self._users.count(tx, user_id, starts=-1)

    def _stop(self, event: Event, told: Told) -> Outcome:
        verbs.stop(self._runtime, told.key, reason="user", detail="the bot ended it")
        return Done(lambda tx: self._stopped(tx, event, told))

    def _note(self, event: Event, told: Told) -> Outcome:
        """Tell the agents what the bot notes, in the transaction that settles the event: once."""
        try:
            text, title = verbs.check_note(_text(told.payload, "text"), draft=told.payload.get("draft") is True)
        except ValueError as error:
            return Dead(f"the bot's note is not understood: {error}")
        return Done(lambda tx: self._noted(tx, told.key, text, title))

    def _noted(self, tx: Transaction, user_id: str, text: str, title: str | None) -> None:
        if not rules.note(tx, user_id, text, title=title, now=self._ledger.now_ms()):
            logger.info("Dropped a note of the bot: no human has the conversation")

    def _stopped(self, tx: Transaction, event: Event, told: Told) -> None:
        self._users.count(tx, told.key, stops=-1)

    def _history(self, user_id: str, conversation_id: str | None) -> list[Any]:
        """Return the conversation with the bot, oldest first; agents are told when Botpress can't be asked now."""
        if conversation_id is None:
            return []
        try:
            found = self._api.messages(user_id, conversation_id, limit=HISTORY)[:HISTORY]
        except (BotpressUnavailable, BotpressRejected):
            logger.info("Botpress's messages before the handoff could not be read; the agent starts without them")
            return [NOT_READ]
        return history_of(found, lambda one: one.get("userId") == botpress_id(user_id))

    # From the agent --------------------------------------------------------------------------------------
    # The user is told at once and the bot through its lane: Botpress's outage does not hold back an agent.

    def tell_assigned(
        self, app: Flask, *, handoff: Handoff, operator: Operator, previous: Operator | None, **extra: Any
    ) -> None:
        """Tell the user and the bot that an agent has the conversation; receives ``operator_assigned``."""
        if not self._sessions.is_ours(handoff):
            return
        key = f"assigned:{handoff.id}:{handoff.assigned_at}:{operator.actor_id}"
        if previous is None:
            said = self._sessions.said(notices.ASSIGNED, handoff)
            self._tell_user(handoff.conversation_id, key, said, name=operator.name, avatar=operator.avatar)
        event = {"kind": "hitl.assigned", "v": 1, "session": handoff.id, "agent": {"name": operator.name or ""}}
        with self._relay.write(f"bot:{handoff.conversation_id}") as tx:
            self._from_user.put_event(tx, handoff.conversation_id, event, key=f"{key}:bot")
        self._relay.wake()

    def show_message(self, app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
        """Show each part of an agent's message once; receives ``operator_message``."""
        if not self._sessions.is_ours(handoff):
            return
        operator = message.operator
        parts = [
            {"payload": part, "message_id": message.message_id if number == 0 else f"{message.message_id}:{number}"}
            for number, part in enumerate(to_botpress(message))
        ]

        def show(part: Payload) -> None:
            self._from_bot.show(
                handoff.conversation_id,
                part["payload"],
                author="operator",
                message_id=part["message_id"],
                name=operator.name if operator else None,
                avatar=operator.avatar if operator else None,
            )

        self._delivery.send(f"message:{message.message_id}", parts, show)

    def tell_place(self, app: Flask, *, handoff: Handoff, waiting: Waiting, **extra: Any) -> None:
        """Tell the user of their new place in the queue; receives ``queue_changed``."""
        if self._sessions.is_ours(handoff):
            key, said = _place_key(handoff, waiting), self._sessions.place(waiting, handoff)
            self._tell_user(handoff.conversation_id, key, said)

    def tell_ended(self, app: Flask, *, handoff: Handoff, transcript: list[Message], **extra: Any) -> None:
        """Tell the user and the bot that the handoff has ended; receives ``conversation_completed``."""
        if self._sessions.is_ours(handoff):
            farewell, event = self._sessions.farewell(handoff), ended_event(handoff, transcript)
            self._end(handoff.conversation_id, f"ended:{handoff.id}:{handoff.closed_at}", farewell, event)

    def tell_failed(self, app: Flask, *, handoff: Handoff, **extra: Any) -> None:
        """Tell the user and the bot that no agent will come; receives ``handoff_failed``."""
        if self._sessions.is_ours(handoff):
            said = self._sessions.said(notices.TIMED_OUT, handoff)
            self._end(handoff.conversation_id, f"failed:{handoff.id}", said, failed_event(handoff.id))

    def _end(self, user_id: str, key: str, text: str, event: Payload) -> None:
        """Tell the user, and the bot in the way that ``resume`` asks for, that the bot has the conversation again."""
        self._tell_user(user_id, key, text)
        with self._relay.write(f"bot:{user_id}") as tx:
            if self._resume == "event":
                self._from_user.put_event(tx, user_id, event, key=f"{key}:bot")
            elif self._resume == "message":
                said = {"type": "text", "text": RESUMED}
                self._from_user.put_message(tx, user_id, said, key=f"{key}:bot", metadata=event)
        self._relay.wake()

    def give_back(self, app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
        """Give the bot what the agents did not get before the end; receives ``message_failed``.

        What HubSpot refuses while the handoff is open is for a receiver of the host's to tell: the bot is silent then.
        """
        if not self._sessions.is_ours(handoff) or handoff.is_open:
            return
        with self._relay.write(f"bot:{handoff.conversation_id}") as tx:
            for number, payload in enumerate(to_botpress(message)):
                key = f"back:{handoff.id}:{message.message_id}:{number}"
                self._from_user.put_message(tx, handoff.conversation_id, payload, key=key)
        self._relay.wake()

    def _tell_user(self, user_id: str, key: str, text: str, **extra: Any) -> None:
        """Show the user a text of ours, once."""
        if text:
            show = partial(self._from_bot.show, user_id, author="system", message_id=key, **extra)
            self._delivery.send(key, [{"type": "text", "text": text}], show)


def _place_key(handoff: Handoff, waiting: Waiting) -> str:
    return f"place:{handoff.id}:{waiting.ahead}"


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
