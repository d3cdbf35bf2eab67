"""Share what the bridges need that play a whole session: its texts, the close command, the time-out, the history.

The behaviour is that of Botpress's HITL plugin, which these bridges stand in for: docs/botpress.rst (During a session;
How a session ends).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC
from typing import Any

from flask import Flask

from ..clock import to_datetime
from ..domain import CloseReason, Contact, Handoff, HistoryEntry, Waiting
from ..errors import NobodyAvailable
from ..handoffs import availability, timeouts, verbs
from ..handoffs.history import History, moment
from ..hubspot.events import Kind
from ..hubspot.hours import read_zone
from ..hubspot.text import scrub
from ..ledger import Event, HandoffRecord, Transaction, lanes
from ..runtime import get_runtime
from . import notices
from .ended import COMMAND, ended_by_bot, nobody_came
from .messages import to_agent
from .relay import Relay, Told

CANNOT_HAND_OVER = (
    "A Botpress conversation can't be handed over (%s); it goes back to the bot. See 'flask hubspot-hitl doctor'"
)
"""What the log says when no handoff can be opened, with the kind of error."""
HISTORY = 100
"""Messages before the handoff that agents see."""
NOT_READ = HistoryEntry("system", "The conversation before could not be read whole from Botpress.")
"""What agents read at the head of a history that has gaps."""
META_LIMIT = 10_000
"""Characters of a bot's ``meta`` as JSON."""


class Sessions:
    """Play the sessions of one bridge on one app.

    :param messages: replace texts of :data:`.texts.TEXTS`.
    :param tells_place: the user is told of their place in the queue.
    :raises RuntimeError: the extension is not on the app.
    """

    def __init__(self, app: Flask, bridge: str, messages: Mapping[str, str], *, tells_place: bool = False) -> None:
        self.tells_place = tells_place
        self._runtime = get_runtime(app)
        self._bridge = bridge
        self._messages = messages

    def is_ours(self, handoff: Handoff) -> bool:
        """Return True when this bridge opened the handoff, and may still write of it to the user and the bot.

        Of one that was erased it may not: what it would be told stands in no row any more, and has to stay so.
        """
        return is_ours(handoff, self._bridge) and handoff.reason is not CloseReason.DELETED

    def said(self, name: str, session: Handoff | Mapping[str, Any] | None) -> str:
        """Return a text of a session, or of one with these overrides; "" when it is suppressed."""
        return notices.notice(name, *self._overrides(session))

    def nobody(self, error: NobodyAvailable, session: Mapping[str, Any]) -> str:
        """Return what the user reads when nobody is there, with the time by the clock of ``BUSINESS_TIME_ZONE``."""
        if error.opens_at is None:
            return self.said(notices.NOBODY, session)
        zone = read_zone(self._runtime.settings.business_time_zone) or UTC
        return self.said(notices.NOBODY_UNTIL, session).replace(
            "{when}", f"{error.opens_at.astimezone(zone):%Y-%m-%d %H:%M %Z}"
        )

    def place(self, waiting: Waiting | None, session: Handoff) -> str:
        """Return what the user reads of the place in the queue; "" when nobody is before, or it is suppressed."""
        if not self.tells_place or waiting is None:
            return ""
        return self.said(notices.WAITING, session).replace("{place}", str(waiting.ahead + 1))

    def open(
        self,
        user_id: str,
        overrides: Mapping[str, str],
        facts: Mapping[str, Any],
        *,
        require_available: object = None,
        **asked: Any,
    ) -> Handoff:
        """Open a handoff, or return the conversation's open one.

        :param user_id: names the conversation.
        :param facts: kept in its attributes.
        :param require_available: False: also when nobody is there; else, with ``AVAILABILITY``, only if somebody is.
        :param asked: what :func:`~.verbs.check_opening` takes.
        """
        attributes = {"bridge": self._bridge, "messages": dict(overrides), **facts}
        opening = verbs.check_opening(self._runtime, user_id, attributes=attributes, history_is_checked=False, **asked)
        if require_available is not False and self._runtime.settings.availability != "none":
            availability.require(self._runtime.services, opening)
        return verbs.start(self._runtime, opening, write=self._runtime.ledger.write_at_work)

    # Ends ------------------------------------------------------------------------------------------------

    def ends(self, conversation_id: str, text: str, message_id: str | None) -> bool:
        """End the open handoff if the text is the close command; return whether it did.

        The agent reads that the user has gone; that message has the command's id, so a replay of it is the same.
        """
        with self._runtime.ledger.read() as tx:
            record = tx.records.open_of(conversation_id)
        if record is None or not notices.is_close_command(text, *self._overrides(record.handoff)):
            return False
        farewell = self.said(notices.CANCELLED, record.handoff) or text
        return verbs.stop(
            self._runtime, conversation_id, reason="user", detail=COMMAND, farewell=farewell, message_id=message_id
        )

    def farewell(self, handoff: Handoff) -> str:
        """Return what the user reads at the end; "" when the bot ended it, which then speaks itself."""
        if ended_by_bot(handoff):
            return ""
        if nobody_came(handoff):
            return self.said(notices.TIMED_OUT, handoff)
        return self.said(notices.CLOSED if handoff.reason is CloseReason.USER else notices.STOPPED, handoff)

    # Nobody comes ----------------------------------------------------------------------------------------

    def watch(self, tx: Transaction, relay: Relay, handoff: Handoff, seconds: object, *, now: int) -> None:
        """Set the timer for an assignment; ``relay`` runs :meth:`timeout` for ``timeout``.

        A session's own ``seconds`` win over ``ASSIGNMENT_TIMEOUT``.
        """
        wanted = self._runtime.settings.assignment_timeout
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= 10**7:
            wanted = float(seconds)
        if wanted > 0:
            told = Told(operation="timeout", key=handoff.id, conversation=handoff.conversation_id)
            due_at, lane = now + int(wanted * 1000), lanes.timer(relay.topic, "assign", handoff.id)
            relay.put(tx, told, now=now, due_at=due_at, dedupe=f"timeout:{handoff.id}", lane=lane)

    def timeout(self, event: Event, told: Told) -> None:
        """End the handoff when no agent has taken or answered it: the operation behind :meth:`watch`.

        The thread is read before that: a webhook may be late.
        """
        ledger = self._runtime.ledger
        with ledger.read() as tx:
            record = tx.records.open_of(told.conversation)
        if record is None or not _waits(record, told.key):
            return
        missed = timeouts.missed_of(History(self._runtime.services), record)
        if missed:
            with ledger.write() as tx:
                tx.queue.put(missed, now=ledger.now_ms())
            self._runtime.dispatcher.wake()
            automation = self._runtime.settings.automation_as_operator
            if any(timeouts.is_taken(one, automation=automation) or one.topic == Kind.MESSAGE for one in missed):
                return
        verbs.stop(
            self._runtime,
            told.conversation,
            reason="timeout",
            farewell=self.said(notices.CANCELLED, record.handoff),
            only_if=lambda one: _waits(one, told.key),
        )

    def _overrides(self, session: Handoff | Mapping[str, Any] | None) -> tuple[Mapping[str, Any] | None, ...]:
        found = session.attributes.get("messages") if isinstance(session, Handoff) else session
        return (found if isinstance(found, Mapping) else None, self._messages)


def _waits(record: HandoffRecord, handoff_id: str) -> bool:
    """Return True while nobody has taken or answered this handoff."""
    if record.handoff.id != handoff_id or record.handoff.operator is not None:
        return False
    return record.taken_at is None and record.answered_at is None


def is_ours(handoff: Handoff, bridge: str) -> bool:
    """Return True when the bridge of this name opened the handoff."""
    return handoff.attributes.get("bridge") == bridge


def contact_of(email: str, phone: str) -> Contact | None:
    """Return the contact that an e-mail address and a phone number name; None without either."""
    return Contact(phone=phone or None, email=email or None) if email or phone else None


def meta_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bot's own ``meta`` object as a fact of the handoff; the host's receivers find it in its attributes.

    One that is no object, or larger than :data:`META_LIMIT`, is left out.
    """
    meta = asked.get("meta")
    if not isinstance(meta, dict) or len(json.dumps(meta)) > META_LIMIT:
        return {}
    return {"meta": meta}


def id_of(message: object) -> str | None:
    """Return a Botpress object's id, None when there is none."""
    found = message.get("id") if isinstance(message, Mapping) else None
    return found if isinstance(found, str) and found else None


def created(message: Mapping[str, Any]) -> int:
    """Return a Botpress object's ``createdAt`` in epoch ms, 0 when there is none."""
    return moment(message) or 0


def other_than(others: Collection[str], messages: Iterable[Mapping[str, Any]], since: int) -> str | None:
    """Return the id of the first of some messages of Botpress's that is none of ``others``, made ``since`` then.

    :param since: epoch ms of our clock; Botpress's may be a minute behind.
    :returns: "?" when Botpress gave it no id; None when there is no such message.
    """
    found = (id_of(one) or "?" for one in messages if created(one) >= since - 60_000)
    return next((one for one in found if one not in others), None)


def history_of(messages: Iterable[Mapping[str, Any]], is_user: Callable[[Mapping[str, Any]], bool]) -> list[Any]:
    """Turn Botpress's messages, newest first, into what was said before: oldest first, files as links.

    A message that can't be read stays as it is: agents are told how many there were.
    """
    entries: list[Any] = []
    for one in messages:
        payload = one.get("payload")
        if not isinstance(payload, dict):
            entries.append(one)
        else:
            kind = one.get("type")
            said = to_agent({**payload, "type": kind} if isinstance(kind, str) else payload)
            text = scrub("\n".join(filter(None, [said.text, *(file.url or "" for file in said.files)])))
            at = to_datetime(created(one)) if created(one) else None
            entries.append(HistoryEntry("user" if is_user(one) else "bot", text, at))
    return entries[::-1]
