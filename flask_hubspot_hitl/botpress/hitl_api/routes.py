"""Serve what Botpress calls, and do what follows in the session's lane, in order."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask.typing import ResponseReturnValue

from ...dispatch.tasks import Done, Outcome
from ...errors import HITLError, LedgerUnavailable
from ...handoffs import verbs
from ...ledger import Event, Transaction, lanes
from ...runtime import Runtime
from ..door import Refused, text_of
from ..messages import to_agent
from ..relay import NotYet, Relay, Told
from ..session import CANNOT_HAND_OVER
from .agents import BY_BOTPRESS, Agents
from .tickets import CANCELLED, NAME, Session, Tickets, contact_from, hints_of

logger = logging.getLogger(__name__)

UNBOUND_MS = 5_000
"""Milliseconds that a session waits to learn its user."""
HISTORY = 200
"""Messages of Botpress's that are taken as the conversation before."""


class Routes:
    """Serve five views; each answers once the request is on disk, because nothing marks Botpress's repetitions."""

    def __init__(self, runtime: Runtime, relay: Relay, tickets: Tickets, agents: Agents) -> None:
        self._runtime, self._ledger = runtime, runtime.ledger
        self._relay, self._tickets, self._agents = relay, tickets, agents
        relay.add("wait", self._waited)
        relay.add("start", self._start, lost=lambda tx, event, told: self._refuse(tx, told.key))
        relay.add("say", self._say)
        relay.add("stop", self._stop)
        relay.add("refuse", self._tell_refusal)

    def ping(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Answer Botpress's check of a new configuration."""
        return {}

    def create_user(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Make a user, as Botpress asks once for each. HubSpot is not asked: there may never be a session."""
        given = _payload(body)
        user_id = f"u_{uuid.uuid4()}"
        with self._ledger.write() as tx:
            self._tickets.add_user(tx, user_id, {name: text_of(given, name) for name in ("name", "email", "phone")})
        return {"id": user_id}

    def create_conversation(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Make a session; its user has to be found out."""
        given = _payload(body)
        title = text_of(given, "title", limit=10_000)
        description = text_of(given, "description", limit=100_000)
        hints = hints_of(description, allow_special_domains=self._runtime.services.settings.is_stand_in)
        messages = given.get("messages")
        told_before = messages[-HISTORY:] if isinstance(messages, list) else []
        session_id = f"s_{uuid.uuid4()}"
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            user_id = self._tickets.named_user(tx, hints)
            guess = self._tickets.guess_user(tx, hints) if user_id is None else None
            session = Session(
                title=title,
                description=description,
                hints=hints,
                history=told_before,
                user=user_id,
                at=now,
                guess=guess,
            )
            self._tickets.put(tx, session_id, session)
            if user_id is not None:
                self._start_soon(tx, session_id, user_id)
            else:
                # In a lane of its own: it must not hold back the messages, one of which may tell who the user is.
                waiting = lanes.timer(self._relay.topic, session_id)
                told = Told(operation="wait", key=session_id)
                self._relay.put(tx, told, now=now, due_at=now + UNBOUND_MS, lane=waiting)
        self._relay.wake()
        return {"id": session_id}

    def bot_sends(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Take a message of the user's, or a text of Botpress's own ("BOT")."""
        session_id = text_of(body, "remoteConversationId", required=True)
        user_id = text_of(body, "remoteUserId") or "BOT"
        payload = _payload(body)
        is_bot = user_id == "BOT"
        is_cancel = is_bot and payload.get("text") == CANCELLED
        with self._ledger.write() as tx:
            session = self._tickets.lock(tx, session_id)
            if session is None or session.state == "closed":
                if is_cancel:
                    self._tickets.cancelled_late(tx, session_id)
                else:
                    logger.warning("Ignored a message from Botpress for a session that has ended")
                return {}
            if not is_bot and session.user is None:  # also one whom we no longer know: Botpress makes none again
                session = replace(session, user=user_id)
                self._start_soon(tx, session_id, user_id)
            now = self._ledger.now_ms()
            if not is_cancel:
                said = _by_the_bot(payload) if is_bot else payload
                self._relay.put(tx, Told(operation="say", key=session_id, payload=said), now=now)
            else:  # said to the agent together with the end
                session = replace(session, cancelled_at=now)
                if self._tickets.was_closed(tx):
                    session = self._closed(tx, session_id, session)
            self._tickets.put(tx, session_id, session)
        self._relay.wake()
        return {}

    def close_ticket(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Close the session that Botpress means: its id is of a conversation that we were never told of."""
        with self._ledger.write() as tx:
            found = self._tickets.closed_one(tx)
            if found is not None:
                session_id, session = found[0], self._tickets.lock(tx, found[0])
                if session is not None:  # or it was erased, or is over, since it was found
                    self._tickets.put(tx, session_id, self._closed(tx, session_id, session))
                    self._tickets.closed(tx, session_id)
        self._relay.wake()
        return {}

    def _start_soon(self, tx: Transaction, session_id: str, user_id: str | None) -> None:
        # Before everything that was said meanwhile.
        told = Told(operation="start", key=session_id, user=user_id or "")
        self._relay.put(tx, told, now=self._ledger.now_ms(), sort_at=0, dedupe=f"start:{session_id}")

    def _closed(self, tx: Transaction, session_id: str, session: Session) -> Session:
        told = Told(operation="stop", key=session_id)
        self._relay.put(tx, told, now=self._ledger.now_ms(), dedupe=f"stop:{session_id}")
        return replace(session, state="closed")

    # In the session's lane -------------------------------------------------------------------------------

    def _waited(self, event: Event, told: Told) -> Outcome:
        """Start with the user whom it may be, else with what the description says: nothing has told the user."""

        def start(tx: Transaction) -> None:
            session = self._tickets.session(tx, told.key)
            if session is not None and session.user is None:
                self._tickets.put(tx, told.key, replace(session, user=session.guess))
                self._start_soon(tx, told.key, session.guess)

        return Done(start)

    def _start(self, event: Event, told: Told) -> Outcome:
        session_id = told.key
        with self._ledger.read() as tx:
            session = self._tickets.session(tx, session_id)
            user = self._tickets.user(tx, told.user) or {}
        if session is None:
            return Done()
        hints = session.hints
        is_stand_in = self._runtime.services.settings.is_stand_in
        try:
            opening = verbs.check_opening(
                self._runtime,
                session_id,
                contact=contact_from(user, hints, allow_special_domains=is_stand_in),
                name=user.get("name") or hints.get("name"),
                title=session.title or None,
                description=session.description or None,
                history=[_said_before(one) for one in session.history],
                history_is_checked=False,
                inbox_id=hints.get("inbox"),
                attributes={"bridge": NAME, "made_at": session.at},
            )
            verbs.start(self._runtime, opening, write=self._relay.write)
        except LedgerUnavailable:
            raise
        except (HITLError, ValueError) as error:
            logger.warning(CANNOT_HAND_OVER, type(error).__name__)
            return Done(lambda tx: self._refuse(tx, session_id))
        return Done(lambda tx: self._tickets.opened(tx, session_id))

    def _refuse(self, tx: Transaction, session_id: str) -> None:
        """Have Botpress told that no agent will come."""
        session = self._tickets.session(tx, session_id)
        self._tickets.stopping(tx, session_id)
        told = Told(operation="refuse", key=session_id, made_at=0 if session is None else session.at)
        self._relay.put(tx, told, now=self._ledger.now_ms(), dedupe=f"refuse:{session_id}")

    def _tell_refusal(self, event: Event, told: Told) -> None:
        self._agents.tell_stopped(told.key, told.made_at or 0)

    def _say(self, event: Event, told: Told) -> None:
        session_id = told.key
        with self._ledger.read() as tx:
            session = self._tickets.session(tx, session_id)
        if session is not None and session.state == "pending":
            raise NotYet(1.0)  # the start, once it is put in, comes first
        readable = to_agent(told.payload)
        key = f"event-{event.id}"  # makes it one message however often this runs
        if not verbs.send(
            self._runtime, session_id, readable.text, attachments=readable.files, message_id=key,
            write=self._relay.write,
        ):  # fmt: skip
            logger.warning("Ignored a message from Botpress for a session that has ended")

    def _stop(self, event: Event, told: Told) -> Outcome:
        verbs.stop(self._runtime, told.key, reason="user", detail=BY_BOTPRESS, farewell=CANCELLED)
        return Done(lambda tx: self._tickets.forget(tx, told.key))


def _payload(body: Mapping[str, Any]) -> dict[str, Any]:
    given = body.get("payload", {})
    if not isinstance(given, dict):
        raise Refused(400, "payload must be an object")
    return given


def _by_the_bot(payload: dict[str, Any]) -> dict[str, Any]:
    """Say who speaks, where it can be told: Botpress's own words come in the same way as the user's.

    A picture or file of the bot's has no words to mark.
    """
    marked = {name: f"Bot: {payload[name]}" for name in ("text", "markdown") if isinstance(payload.get(name), str)}
    return {**payload, **marked}


def _said_before(message: Any) -> Any:
    """Name the author of a message of Botpress's that has none; what is no such message stays as it is."""
    if isinstance(message, dict) and "text" in message:
        return str(message.get("author") or "user"), message["text"]
    return message
