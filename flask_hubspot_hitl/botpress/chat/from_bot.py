"""Take in what the bot says: its signals, those of them that got lost, and the host's callback that shows them.

The Chat integration posts every signal once, without retry (docs/botpress.rst: Chat API signals); what is missing is
read back from Botpress.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from flask.typing import ResponseReturnValue

from ...clock import to_ms
from ...dispatch.tasks import Done, Outcome
from ...handoffs.receivers import invoke, own_copy
from ...ledger import Event, Transaction, lanes
from ..delivery import Payload
from ..door import Refused
from ..relay import NotYet, Told
from ..service import BotpressRejected
from ..session import created
from .api import botpress_id
from .shared import Part, Shared

logger = logging.getLogger(__name__)

POLLS = (10, 30, 120)
"""Seconds after a message of the user's at which the bot's answers are read, in case a signal was lost."""
PARKED_SECONDS = 5.0
"""Seconds between two looks whether a human still has the conversation."""

OnMessage = Callable[..., Any]


class FromBot(Part):
    """Put what the bot says into the user's lane, once. ``parks``: what it says beside a human waits for the end."""

    def __init__(self, shared: Shared, on_message: OnMessage, *, parks: bool) -> None:
        super().__init__(shared)
        self._on_message = on_message
        self._parks = parks
        shared.relay.add("show", self._show)
        shared.relay.add("drop", self._drop)
        shared.relay.add("poll", self._poll)

    def signal(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Take one signal of the Chat integration; signals and conversations that are not ours are ignored."""
        kind, data = body.get("type"), body.get("data")
        if not isinstance(kind, str) or not isinstance(data, dict):
            raise Refused(400, "type must be text and data an object")
        if kind in ("message_created", "event_created") and data.get("isBot") is True:
            with self._ledger.write() as tx:
                self._take(tx, kind, data)
            self._relay.wake()
        return {}

    def _take(self, tx: Transaction, kind: str, data: Mapping[str, Any]) -> None:
        """Put a message or an event of the bot's into the user's lane, once."""
        now = self._ledger.now_ms()
        conversation_id, payload = data.get("conversationId"), data.get("payload")
        if not isinstance(conversation_id, str) or not isinstance(payload, dict):
            return
        user_id = self._users.owner(tx, conversation_id)
        if user_id is None:
            return
        self._users.touch(tx, user_id)
        signal_id = data.get("id")
        if not isinstance(signal_id, str) or not signal_id:
            signal_id = digest(conversation_id, data.get("createdAt"), payload)
        at = min(created(data) or now, now)
        if kind == "event_created":
            wanted = {"hitl.start": "start", "hitl.stop": "stop", "hitl.note": "note"}.get(str(payload.get("kind")))
            if wanted is None:
                return
            told = Told(operation=wanted, key=user_id, payload=payload)
            is_new = self._relay.put(tx, told, now=now, sort_at=at, dedupe=f"in:{signal_id}")
            if is_new and wanted != "note":
                self._users.count(tx, user_id, starts=wanted == "start", stops=wanted == "stop")
            return
        is_human = self._users.is_with_human(tx, user_id)
        extra = {"author": "bot", "message_id": signal_id, "metadata": data.get("metadata")}
        operation = "drop" if is_human and not self._parks else "show"
        told = Told(operation=operation, key=user_id, payload=payload, extra=extra, parked=is_human)
        lane = lanes.bridge(self._relay.topic, "parked", user_id) if is_human else None
        self._relay.put(tx, told, now=now, sort_at=at, dedupe=f"in:{signal_id}", lane=lane)

    # To the user -----------------------------------------------------------------------------------------

    def _drop(self, event: Event, told: Told) -> None:
        """Do nothing with what the bot said beside a human; its id is stored, so that no later reading shows it."""
        logger.info("Dropped a message of the bot: a human has the conversation (BOT_MESSAGES=park keeps it)")

    def _show(self, event: Event, told: Told) -> None:
        if told.parked:
            with self._ledger.read() as tx:
                if tx.records.open_of(told.key) is not None:
                    raise NotYet(PARKED_SECONDS)
        self.show(told.key, told.payload, **told.extra)

    def show(self, user_id: str, payload: Payload, **extra: Any) -> None:
        """Call the host's ``on_message``; whatever it raises goes on."""
        extra = {"name": None, "avatar": None, "metadata": None, **extra}
        given = self._users.get(user_id), own_copy(payload)
        contextvars.copy_context().run(invoke, self._app, self._on_message, *given, **own_copy(extra))

    def put_notice(self, tx: Transaction, user_id: str, key: str, text: str) -> None:
        """Have a text of ours shown to the user, once, in the order of what the bot says; "" is none."""
        if text:
            payload, extra = {"type": "text", "text": text}, {"author": "system", "message_id": key}
            told = Told(operation="show", key=user_id, payload=payload, extra=extra, parked=False)
            self._relay.put(tx, told, now=self._ledger.now_ms(), dedupe=key)

    # What got lost ---------------------------------------------------------------------------------------

    def watch(self, tx: Transaction, user_id: str, conversation_id: str, *, since: int, polls: int = 0) -> None:
        """Have what the bot has said since this time (epoch ms) read later, because signals are sent once."""
        now = self._ledger.now_ms()
        told = Told(operation="poll", key=user_id, conversation=conversation_id, since=since, polls=polls)
        lane = lanes.timer(self._relay.topic, user_id)
        self._relay.put(tx, told, now=now, due_at=now + POLLS[polls] * 1000, lane=lane)

    def _poll(self, event: Event, told: Told) -> Outcome:
        user_id, conversation_id, since = told.key, told.conversation, told.since
        try:
            messages = self._api.messages(user_id, conversation_id)
        except BotpressRejected:  # it is gone, and what was said in it
            return Done()
        found = [
            one
            for one in reversed(messages)
            if one.get("userId") != botpress_id(user_id) and created(one) >= since - 1_000
        ]

        def take(tx: Transaction) -> None:
            newest = tx.records.newest_of(user_id)
            began, ended = (newest.handoff.opened_at, newest.handoff.closed_at) if newest else (None, None)
            for one in found:
                said = created(one)
                if began and ended and to_ms(began) <= said <= to_ms(ended):
                    continue  # the bot spoke while a human had the conversation
                self._take(tx, "message_created", {**one, "conversationId": conversation_id})
            polls = (told.polls or 0) + 1
            if polls < len(POLLS) and not found:
                self.watch(tx, user_id, conversation_id, since=since, polls=polls)

        return Done(take)


def digest(*parts: Any) -> str:
    """Return a short name for what has no id."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]
