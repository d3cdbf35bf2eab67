"""The ``plus/hitl-api`` contract: Botpress's older HITL agent hands its conversations to us, and gets them back.

Botpress calls five routes of ours and we call three of its; neither side is authenticated but by a secret in the
URL, and no request has an id. What follows from that, and what is done about it: Botpress, ``plus/hitl-api`` 0.2.2.
For bots on the HITL agent only; the current HITL plugin does not take this integration.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask
from flask.typing import ResponseReturnValue

from .. import signals, verbs
from ..domain import CloseReason, Contact, Handoff, Message, Operator
from ..errors import ContactError, DeliveryDelayed, DeliveryFailed, HITLError, LedgerUnavailable
from ..hubspot.transport import hide
from ..ledger import Event, Transaction
from ..runtime import get_runtime
from ..tasks import Done, Outcome
from .delivery import Delivery, Payload
from .door import Refused, add_routes, read_object, same, text_of
from .messages import FILE_HOSTS, to_agent, to_botpress
from .options import Options
from .relay import NotYet, Relay
from .service import BotpressRejected, Service

if TYPE_CHECKING:
    from ..extension import HubSpotHITL

logger = logging.getLogger(__name__)

NAME = "hitl-api"
CANCELLED = "( The user has ended the session. )"
"""What Botpress's plugin tells the agent when the user ends; it comes just before or after the ticket is closed."""
CANCEL_MS = 15_000
RECENT_USER_MS = 10_000
UNBOUND_MS = 5_000
"""How long a session waits to learn who its user is."""
ACTIVE_MS = 3_000
"""Botpress drops what we say before it has linked the two conversations; nothing tells when it has."""
SESSIONS = 1_000
_HINT = re.compile(r"^\s*([A-Za-z_][\w -]{0,30}?)\s*:\s*(\S.*?)\s*$")
_HINTS = {"email": "email", "e-mail": "email", "phone": "phone", "name": "name", "userid": "user_id", "inbox": "inbox"}
_FAKE_EMAIL = re.compile(r"^([^@]+)@no-reply\.[^@]*botpress\.com$", re.IGNORECASE)


class HitlApiBridge:
    """``HitlApiBridge(hitl).init_app(app)`` after ``hitl.init_app(app)``.

    ``secret`` is the path segment that Botpress is given in its *endpoint base URL*,
    ``<PUBLIC_URL><prefix>/botpress/hitl-api/<secret>``; ``webhook_url`` is the integration's own URL, which is a
    secret too. Each falls back to ``HUBSPOT_HITL_BOTPRESS_<OPTION>``.
    """

    def __init__(self, hitl: HubSpotHITL, *, secret: str | None = None, webhook_url: str | None = None) -> None:
        self._hitl = hitl
        self._given = {"secret": secret, "webhook_url": webhook_url}

    def init_app(self, app: Flask) -> None:
        """Add the routes and connect the signals.

        :raises ConfigError: listing everything that is wrong with the options.
        """
        options = Options(app)
        secret = options.secret("secret", self._given["secret"], example="32 random letters and digits")
        url = options.url(
            "webhook_url", self._given["webhook_url"], example="https://webhook.botpress.cloud/<the integration's id>"
        )
        options.check()
        app.extensions[f"{__name__}:bridge"] = _Bridge(app, secret, url)


class _Bridge:
    """The bridge on one app. What it remembers: ``user:<id>``, ``session:<id>``, ``close``."""

    def __init__(self, app: Flask, secret: str, webhook_url: str) -> None:
        runtime = get_runtime(app)
        self._runtime = runtime
        self._ledger = runtime.ledger
        self._secret = secret
        self._delivery = Delivery(self._ledger, NAME)
        settings = runtime.settings
        hide(secret)
        for segment in urlsplit(webhook_url).path.split("/"):
            hide(segment)
        self._botpress = Service(webhook_url, clock=runtime.services.clock, proxy=settings.proxy)
        runtime.services.remote_files.allow(*FILE_HOSTS)
        operations = {"start": self._start, "say": self._say, "stop": self._stop, "wait": self._waited}
        self._relay = Relay(app, NAME, operations, lost=self._lost)
        views = {
            "ping": self._ping,
            "createRemoteUser": self._create_user,
            "createRemoteConversation": self._create_conversation,
            "botSendsMessage": self._bot_sends,
            "closeRemoteTicket": self._close_ticket,
        }
        add_routes(
            app, "hitl_api", "/hitl-api", {f"/<secret>/{name}": self._locked(one) for name, one in views.items()}
        )
        signals.operator_assigned.connect(self.agent_assigned, app)
        signals.operator_message.connect(self.message_from_agent, app)
        signals.conversation_completed.connect(self.stop_hitl, app)
        signals.handoff_failed.connect(self.stop_hitl, app)

    # What Botpress calls ---------------------------------------------------------------------------------

    def _locked(self, view: Any) -> Any:
        """``view(body)`` behind the secret in the path; a wrong one is a page that is not there."""

        def guarded(secret: str) -> ResponseReturnValue:
            if not same(secret, self._secret):
                raise Refused(404, "not found")
            answer: ResponseReturnValue = view(read_object())
            return answer

        guarded.__name__ = view.__name__
        return guarded

    def _ping(self, body: dict[str, Any]) -> ResponseReturnValue:
        return {}

    def _create_user(self, body: dict[str, Any]) -> ResponseReturnValue:
        given = _payload(body)
        user_id = f"u_{uuid.uuid4()}"
        user = {name: text_of(given, name) for name in ("name", "email", "phone", "pictureUrl")}
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            tx.bridges.put(NAME, f"user:{user_id}", {**user, "at": now}, now=now)
        return {"id": user_id}

    def _create_conversation(self, body: dict[str, Any]) -> ResponseReturnValue:
        given = _payload(body)
        title = text_of(given, "title", limit=10_000)
        description = text_of(given, "description", limit=100_000)
        session_id = f"s_{uuid.uuid4()}"
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            hints = _hints(description)
            user_id = self._find_user(tx, hints, now)
            session = {
                "title": title,
                "description": description,
                "hints": hints,
                "history": [one for one in given.get("messages") or () if isinstance(one, dict)][:200],
                "user": user_id,
                "state": "pending",
                "at": now,
            }
            tx.bridges.put(NAME, f"session:{session_id}", session, now=now)
            if user_id is not None:
                self._start_soon(tx, session_id, user_id, now)
            else:
                # In a lane of its own: it must not hold back the messages, one of which may tell who the user is.
                waiting = f"timer:{self._relay.topic}:{session_id}"
                self._relay.put(tx, session_id, "wait", {}, now=now, due_at=now + UNBOUND_MS, lane=waiting)
        self._relay.wake()
        return {"id": session_id}

    def _bot_sends(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Accepted once it is on disk: without a message id, nothing may be answered that has it sent again."""
        session_id = text_of(body, "remoteConversationId", required=True)
        user_id = text_of(body, "remoteUserId") or "BOT"
        payload = _payload(body)
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            session = self._lock(tx, session_id, now)
            if session is None or session["state"] == "closed":
                logger.warning("A message of Botpress's for a session that is not open was ignored")
                return {}
            if user_id != "BOT" and session["user"] is None and tx.bridges.get(NAME, f"user:{user_id}") is not None:
                session["user"] = user_id
                self._start_soon(tx, session_id, user_id, now)
            if not (user_id == "BOT" and payload.get("text") == CANCELLED):
                self._relay.put(tx, session_id, "say", {"payload": payload}, now=now)
            else:  # said to the agent together with the end
                session["cancelled_at"] = now
                if now - (tx.bridges.get(NAME, "close", lock=True) or 0) <= CANCEL_MS:
                    tx.bridges.delete(NAME, "close")
                    self._close(tx, session_id, session, now)
            tx.bridges.put(NAME, f"session:{session_id}", session, now=now)
        self._relay.wake()
        return {}

    def _close_ticket(self, body: dict[str, Any]) -> ResponseReturnValue:
        """The id is of a conversation that we were never told of: the session is found by its circumstances."""
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            open_ones = [(key, one) for key, one in self._sessions(tx) if one["state"] != "closed"]
            cancelled = [pair for pair in open_ones if now - pair[1].get("cancelled_at", 0) <= CANCEL_MS]
            found = max(cancelled, key=lambda pair: pair[1]["cancelled_at"], default=None)
            if found is None and len(open_ones) == 1:
                found = open_ones[0]
            if found is None:
                if open_ones:
                    logger.warning("Botpress closed a ticket that can't be told from %d others", len(open_ones))
                tx.bridges.put(NAME, "close", now, now=now)
            else:
                session_id = found[0]
                session = self._lock(tx, session_id, now) or found[1]
                self._close(tx, session_id, session, now)
                tx.bridges.put(NAME, f"session:{session_id}", session, now=now)
        self._relay.wake()
        return {}

    # Who the user is -------------------------------------------------------------------------------------

    def _find_user(self, tx: Transaction, hints: Mapping[str, str], now: int) -> str | None:
        """The user whom the description names, else the one made just before who has no session yet."""
        users = [(key.removeprefix("user:"), one) for key, one in tx.bridges.newest(NAME, "user:", limit=SESSIONS)]
        for user_id, user in users:
            email = user["email"]
            fake = _FAKE_EMAIL.match(email)
            if hints.get("email") and email.lower() == hints["email"].lower():
                return user_id
            if hints.get("user_id") and fake and fake[1] == hints["user_id"]:
                return user_id
        taken = {one["user"] for _, one in self._sessions(tx)}
        fresh = [user_id for user_id, one in users if now - one["at"] <= RECENT_USER_MS and user_id not in taken]
        return fresh[0] if len(fresh) == 1 and not hints.get("email") else None

    def _lock(self, tx: Transaction, session_id: str, now: int) -> dict[str, Any] | None:
        """A session, locked. First its lane: the dispatcher locks in that order."""
        self._relay.reserve(tx, session_id, now=now)
        session: dict[str, Any] | None = tx.bridges.get(NAME, f"session:{session_id}", lock=True)
        return session

    def _sessions(self, tx: Transaction) -> list[tuple[str, dict[str, Any]]]:
        found = tx.bridges.newest(NAME, "session:", limit=SESSIONS)
        return [(key.removeprefix("session:"), one) for key, one in found]

    def _start_soon(self, tx: Transaction, session_id: str, user_id: str | None, now: int) -> None:
        # Before everything that was said meanwhile.
        self._relay.put(tx, session_id, "start", {"user": user_id}, now=now, sort_at=0, dedupe=f"start:{session_id}")

    def _close(self, tx: Transaction, session_id: str, session: dict[str, Any], now: int) -> None:
        session["state"] = "closed"
        self._relay.put(tx, session_id, "stop", {}, now=now, dedupe=f"stop:{session_id}")

    # What is done with it, in order ----------------------------------------------------------------------

    def _waited(self, event: Event) -> Outcome:
        """Nobody has told who the user is: start with what the description says."""
        session_id = event.payload["key"]

        def start(tx: Transaction) -> None:
            session = tx.bridges.get(NAME, f"session:{session_id}")
            if session is not None and session["user"] is None:
                self._start_soon(tx, session_id, None, self._ledger.now_ms())

        return Done(start)

    def _start(self, event: Event) -> Outcome:
        session_id = event.payload["key"]
        with self._ledger.read() as tx:
            session = tx.bridges.get(NAME, f"session:{session_id}")
            user = tx.bridges.get(NAME, f"user:{event.payload['user']}") or {}
        hints = session["hints"]
        try:
            opening = verbs.check_opening(
                self._runtime,
                session_id,
                contact=_contact(user, hints),
                name=user.get("name") or hints.get("name"),
                title=session["title"] or None,
                description=session["description"] or None,
                history=[(str(one.get("author") or "user"), str(one.get("text") or "")) for one in session["history"]],
                inbox_id=hints.get("inbox"),
                portal_id=None,
                assign_to=None,
                attributes={"bridge": NAME},
            )
            verbs.start(self._runtime, opening)
        except LedgerUnavailable:
            raise
        except (ContactError, HITLError, ValueError) as error:
            why = type(error).__name__
            logger.error("A session of Botpress's can't be handed over: %s", why)  # noqa: TRY400 - may hold a contact
            return Done(lambda tx: self._refuse(tx, session_id))
        return Done(lambda tx: self._mark(tx, session_id, "open"))

    def _refuse(self, tx: Transaction, session_id: str) -> None:
        """Botpress must not wait for an agent who will never come."""
        self._mark(tx, session_id, "closed")
        now = self._ledger.now_ms()
        self._relay.put(tx, session_id, "stop", {"tell": True}, now=now, dedupe=f"refuse:{session_id}")

    def _mark(self, tx: Transaction, session_id: str, state: str) -> None:
        session = tx.bridges.get(NAME, f"session:{session_id}", lock=True)
        if session is not None and session["state"] != "closed":
            tx.bridges.put(NAME, f"session:{session_id}", {**session, "state": state}, now=self._ledger.now_ms())

    def _say(self, event: Event) -> None:
        session_id = event.payload["key"]
        with self._ledger.read() as tx:
            session = tx.bridges.get(NAME, f"session:{session_id}")
        if session["state"] == "pending":
            raise NotYet(1.0)  # the start, once it is put in, comes first
        readable = to_agent(event.payload["payload"])
        key = f"event-{event.id}"  # makes it one message however often this runs
        if not verbs.send(self._runtime, session_id, readable.text, attachments=readable.files, message_id=key):
            logger.info("A message of Botpress's came after the end of its session")

    def _stop(self, event: Event) -> None:
        session_id = event.payload["key"]
        if event.payload.get("tell"):
            self._tell("stop-hitl", {"remoteConversationId": session_id})
        else:
            verbs.stop(self._runtime, session_id, reason="user", farewell=CANCELLED)

    def _lost(self, tx: Transaction, event: Event, now: int) -> None:
        if event.payload["operation"] == "start":
            self._refuse(tx, event.payload["key"])

    # What we call ----------------------------------------------------------------------------------------

    def agent_assigned(self, app: Flask, *, handoff: Handoff, operator: Operator, **extra: Any) -> None:
        """Receiver of ``operator_assigned``."""
        if self._is_ours(handoff):
            self._wait_until_active(handoff)
            self._tell("agent-assigned", _named(handoff, operator))

    def message_from_agent(self, app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
        """Receiver of ``operator_message``: text and files are messages of their own, each sent once."""
        if not self._is_ours(handoff):
            return
        self._wait_until_active(handoff)

        def tell(part: Payload) -> None:
            payload = {name: value for name, value in part.items() if name != "type"}
            body = {**_named(handoff, message.operator), "messageType": part["type"], "payload": payload}
            self._tell("message-from-agent", body)

        try:
            self._delivery.send(f"message:{message.message_id}", to_botpress(message), tell)
        except BotpressRejected:
            raise DeliveryFailed("The bot's platform refused this message.") from None

    def stop_hitl(self, app: Flask, *, handoff: Handoff, reason: CloseReason | None = None, **extra: Any) -> None:
        """Receiver of ``conversation_completed`` and ``handoff_failed``; Botpress knows already what its user ended."""
        if self._is_ours(handoff):
            with self._ledger.write() as tx:
                self._mark(tx, handoff.conversation_id, "closed")
            if reason is not CloseReason.USER:
                self._tell("stop-hitl", {"remoteConversationId": handoff.conversation_id})

    def _tell(self, route: str, body: dict[str, Any]) -> None:
        self._botpress.call("POST", f"/{route}", doing=f"telling Botpress {route}", body=body)

    def _wait_until_active(self, handoff: Handoff) -> None:
        with self._ledger.read() as tx:
            session = tx.bridges.get(NAME, f"session:{handoff.conversation_id}")
        left = 0 if session is None else session["at"] + ACTIVE_MS - self._ledger.now_ms()
        if left > 0:
            raise DeliveryDelayed("Botpress is still linking the conversations", retry_after=left / 1000)

    def _is_ours(self, handoff: Handoff) -> bool:
        return handoff.attributes.get("bridge") == NAME


def _payload(body: Mapping[str, Any]) -> dict[str, Any]:
    given = body.get("payload", {})
    if not isinstance(given, dict):
        raise Refused(400, "payload must be an object")
    return given


def _hints(description: str) -> dict[str, str]:
    """The ``key: value`` lines of a ticket's description that we know."""
    found: dict[str, str] = {}
    for line in description.splitlines():
        match = _HINT.match(line)
        if match and (name := _HINTS.get(match[1].lower().replace(" ", ""))):
            found.setdefault(name, match[2][:500])
    return found


def _contact(user: Mapping[str, str], hints: Mapping[str, str]) -> Contact | None:
    """Whom HubSpot should know. An e-mail field without an ``@`` holds a phone number; Botpress's own inventions don't
    count."""
    emails = [one for one in (hints.get("email"), user.get("email")) if one and not _FAKE_EMAIL.match(one)]
    phones = [one for one in (hints.get("phone"), user.get("phone")) if one]
    if not emails and not phones:
        return None
    return Contact(phone=phones[0] if phones else None, email=emails[0] if emails else None)


def _named(handoff: Handoff, operator: Operator | None) -> dict[str, str]:
    """The ids of a call: an agent's, never the user's, to whom Botpress would credit the message."""
    return {
        "remoteConversationId": handoff.conversation_id,
        "remoteUserId": f"agent_{operator.actor_id if operator else 'unknown'}",
    }
