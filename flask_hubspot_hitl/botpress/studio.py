"""Botpress owns the user's channel: a snippet at the start of its flow asks us who answers.

Three routes, called by code cards in Studio with a bearer secret, and agents' replies through the Runtime API
(Botpress OpenAPI, ``POST /v1/chat/messages`` as the bot). Each route answers in under two seconds, whatever HubSpot
does: what can't be done at once is in the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask.typing import ResponseReturnValue

from .. import signals, verbs
from ..domain import CloseReason, Contact, Handoff, Message, Operator
from ..errors import DeliveryFailed, HITLError, LedgerUnavailable
from ..hubspot.content import parse_time
from ..hubspot.transport import deadline
from ..ledger import Event
from ..runtime import get_runtime
from . import notices
from .delivery import ONCE, Delivery, Payload
from .door import add_routes, read_object, require_bearer, text_of
from .ended import COMMAND, ended_event
from .messages import FILE_HOSTS, MEDIA, to_agent, to_botpress
from .notices import notice
from .options import Options
from .relay import Relay
from .service import BotpressRejected, Service

if TYPE_CHECKING:
    from ..extension import HubSpotHITL

logger = logging.getLogger(__name__)

NAME = "studio"
START_SECONDS = 1.5
MESSAGE_TYPES = frozenset(MEDIA) | {"text", "markdown", "location", "card", "carousel", "choice", "dropdown", "bloc"}


class StudioBridge:
    """``StudioBridge(hitl).init_app(app)`` after ``hitl.init_app(app)``.

    ``bot_id`` and ``token`` (a bot access key) are the bot's, ``call_secret`` is what its snippets send as bearer.
    ``resume_webhook`` is the URL of a webhook integration that is told when a session ends, with
    ``resume_webhook_secret``. Each falls back to ``HUBSPOT_HITL_BOTPRESS_<OPTION>``. ``messages`` replaces texts of
    :data:`.notices.DEFAULTS` for all sessions.
    """

    def __init__(
        self,
        hitl: HubSpotHITL,
        *,
        bot_id: str | None = None,
        token: str | None = None,
        call_secret: str | None = None,
        api_url: str | None = None,
        resume_webhook: str | None = None,
        resume_webhook_secret: str | None = None,
        messages: Mapping[str, str] | None = None,
    ) -> None:
        self._hitl = hitl
        self._bot_id, self._token, self._call_secret, self._api_url = bot_id, token, call_secret, api_url
        self._resume_webhook, self._resume_secret = resume_webhook, resume_webhook_secret
        self._messages = notices.known(messages)

    def init_app(self, app: Flask) -> None:
        """Add the routes and connect the signals.

        :raises ConfigError: listing everything that is wrong with the options.
        """
        options = Options(app)
        bot_id = options.text("bot_id", self._bot_id, example="the id in the Studio's URL")
        token = options.secret("token", self._token, example="a bot access key, bp_bak_…")
        call_secret = options.secret("call_secret", self._call_secret, example="32 random letters and digits")
        api_url = options.url("api_url", self._api_url, example="…", default="https://api.botpress.cloud")
        resume = options.url(
            "resume_webhook", self._resume_webhook, example="https://webhook.botpress.cloud/…", required=False
        )
        secret = options.secret("resume_webhook_secret", self._resume_secret, example="…", required=False)
        options.check()
        clock, proxy = get_runtime(app).services.clock, get_runtime(app).settings.proxy
        api = Service(
            api_url, clock=clock, proxy=proxy, headers={"Authorization": f"Bearer {token}", "x-bot-id": bot_id}
        )
        headers = {"x-bp-secret": secret} if secret else {}
        resumed = Service(resume, clock=clock, proxy=proxy, headers=headers) if resume else None
        app.extensions[f"{__name__}:bridge"] = _Bridge(app, api, resumed, bot_id, call_secret, self._messages)


class _Bridge:
    """The bridge on one app. All it has to know of a session is in the handoff's attributes."""

    def __init__(
        self,
        app: Flask,
        api: Service,
        resume: Service | None,
        bot_id: str,
        call_secret: str,
        messages: Mapping[str, str],
    ) -> None:
        self._runtime = get_runtime(app)
        self._ledger = self._runtime.ledger
        self._api = api
        self._resume = resume
        self._bot_id = bot_id
        self._secret = call_secret
        self._messages = messages
        self._delivery = Delivery(self._ledger, NAME)
        self._runtime.services.remote_files.allow(*FILE_HOSTS)
        self._relay = Relay(app, NAME, {"timeout": self._timeout})
        views = {"/start": self._start, "/turn": self._turn, "/stop": self._stop}
        add_routes(app, "studio", "", {rule: self._locked(view) for rule, view in views.items()})
        signals.operator_assigned.connect(self.tell_assigned, app)
        signals.operator_message.connect(self.relay_message, app)
        signals.conversation_completed.connect(self.tell_ended, app)
        signals.handoff_failed.connect(self.tell_failed, app)

    # What the bot asks -----------------------------------------------------------------------------------

    def _locked(self, view: Any) -> Any:
        def guarded() -> ResponseReturnValue:
            require_bearer(self._secret)
            answer: ResponseReturnValue = view(read_object())
            return answer

        guarded.__name__ = view.__name__
        return guarded

    def _start(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Open a handoff. A turn that Studio replays opens nothing: its ``messageId`` is known."""
        conversation_id = text_of(body, "conversationId", required=True)
        message_id = text_of(body, "messageId")
        user: dict[str, Any] = body["user"] if isinstance(body.get("user"), dict) else {}
        overrides = notices.known(body.get("messages"))
        with self._ledger.read() as tx:
            newest = tx.records.newest_of(conversation_id)
        if newest is not None:
            handoff = newest.handoff
            if handoff.is_open or (message_id and handoff.attributes.get("message_id") == message_id):
                status = "open" if handoff.is_open else "closed"
                return {"status": status, "session": handoff.id, "message": self._said(notices.HANDOFF, handoff)}
        attributes = {
            "bridge": NAME,
            "message_id": message_id,
            "user_id": text_of(body, "userId"),
            "integration": text_of(body, "integration"),
            "messages": overrides,
        }
        try:
            opening = verbs.check_opening(
                self._runtime,
                conversation_id,
                contact=_contact(user),
                name=text_of(user, "name") or None,
                title=text_of(body, "title", limit=10_000) or None,
                description=text_of(body, "summary", limit=100_000) or None,
                history=(),
                inbox_id=text_of(body, "inbox") or None,
                portal_id=None,
                assign_to=None,
                attributes=attributes,
            )
            with deadline(START_SECONDS):
                handoff = verbs.start(self._runtime, opening)
        except LedgerUnavailable:
            raise
        except (HITLError, ValueError) as error:
            why = type(error).__name__
            logger.error("A conversation of Botpress's can't be handed over: %s", why)  # noqa: TRY400 - may hold a contact
            return {"status": "failed", "message": notice(notices.TIMED_OUT, overrides, self._messages)}
        self._watch(handoff, body.get("assignmentTimeout"))
        return {"status": "open", "session": handoff.id, "message": self._said(notices.HANDOFF, handoff)}

    def _turn(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Who answers the user? ``handled``: the agent has it. The same turn again is the same message."""
        conversation_id = text_of(body, "conversationId", required=True)
        key = text_of(body, "messageId") or text_of(body, "eventId", required=True)
        payload = body.get("payload") if isinstance(body.get("payload"), dict) else {}
        kind = text_of(body, "type")
        text = text_of(body, "text", limit=1_000_000)
        if kind not in MESSAGE_TYPES and not text:
            with self._ledger.read() as tx:
                return {"handled": tx.records.open_of(conversation_id) is not None}  # no message of the user's
        said = to_agent({**payload, "type": kind} if payload else {"type": "text", "text": text})
        with self._ledger.read() as tx:
            record = tx.records.open_of(conversation_id)
        ends = record is not None and notices.is_close_command(said.text, _overrides(record.handoff), self._messages)
        if ends and record is not None:
            handled = self._end_by_user(record.handoff, key)
        else:
            handled = verbs.send(self._runtime, conversation_id, said.text, attachments=said.files, message_id=key)
        if handled:
            return {"handled": True}
        with self._ledger.write() as tx:
            ended = tx.bridges.get(NAME, f"{ONCE}ended:{conversation_id}")
            if ended is not None:
                tx.bridges.delete(NAME, f"{ONCE}ended:{conversation_id}")
        return {"handled": False} if ended is None else {"handled": False, "context": ended}

    def _end_by_user(self, handoff: Handoff, key: str) -> bool:
        """The agent reads that the user has gone; the text bears the command's id, so a replay is the same."""
        said = notice(notices.CANCELLED, _overrides(handoff), self._messages) or "/end"
        return verbs.stop(
            self._runtime, handoff.conversation_id, reason="user", detail=COMMAND, farewell=said, message_id=key
        )

    def _stop(self, body: dict[str, Any]) -> ResponseReturnValue:
        conversation_id = text_of(body, "conversationId", required=True)
        detail = text_of(body, "reason") or "the bot ended it"
        verbs.stop(self._runtime, conversation_id, reason="user", detail=detail)
        return {"status": "closed"}

    # Nobody comes ----------------------------------------------------------------------------------------

    def _watch(self, handoff: Handoff, given: object) -> None:
        """Set the timer for an assignment: the session's own seconds, else ``ASSIGNMENT_TIMEOUT``."""
        seconds = self._runtime.settings.assignment_timeout
        if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 10**7:
            seconds = float(given)
        if seconds <= 0:
            return
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            due_at = now + int(seconds * 1000)
            lane = f"timer:{self._relay.topic}:{handoff.id}"
            facts = {"conversation": handoff.conversation_id}
            dedupe = f"timeout:{handoff.id}"
            self._relay.put(tx, handoff.id, "timeout", facts, now=now, due_at=due_at, dedupe=dedupe, lane=lane)

    def _timeout(self, event: Event) -> None:
        conversation_id = event.payload["conversation"]
        with self._ledger.read() as tx:
            record = tx.records.open_of(conversation_id)
        if record is None or record.handoff.id != event.payload["key"] or record.handoff.operator is not None:
            return
        said = notice(notices.CANCELLED, _overrides(record.handoff), self._messages)
        verbs.stop(self._runtime, conversation_id, reason="timeout", farewell=said)

    # What the user reads ---------------------------------------------------------------------------------

    def tell_assigned(
        self, app: Flask, *, handoff: Handoff, operator: Operator, previous: Operator | None, **extra: Any
    ) -> None:
        """Receiver of ``operator_assigned``: told once; who takes over from a colleague shows by the name."""
        if self._is_ours(handoff) and previous is None:
            self._tell(handoff, f"assigned:{handoff.id}:{handoff.assigned_at}", self._said(notices.ASSIGNED, handoff))

    def relay_message(self, app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
        """Receiver of ``operator_message``."""
        if not self._is_ours(handoff):
            return
        name = message.operator.name if message.operator else None
        user_id = self._webchat_user(handoff, message.operator)
        parts = to_botpress(message, prefix=f"{name}: " if name and user_id is None else "")
        if user_id is not None:
            parts = [{**part, "userId": user_id} for part in parts]
        try:
            self._send(handoff, f"message:{message.message_id}", parts)
        except BotpressRejected:
            text = notice(notices.INCOMPATIBLE, _overrides(handoff), self._messages)
            raise DeliveryFailed(text or notices.DEFAULTS[notices.INCOMPATIBLE]) from None

    def tell_ended(
        self,
        app: Flask,
        *,
        handoff: Handoff,
        reason: CloseReason,
        detail: str | None,
        transcript: list[Message],
        **extra: Any,
    ) -> None:
        """Receiver of ``conversation_completed``: the user reads why, the bot gets the conversation's content."""
        if not self._is_ours(handoff):
            return
        name = {CloseReason.TIMEOUT: notices.TIMED_OUT, CloseReason.USER: notices.CLOSED}.get(reason, notices.STOPPED)
        if reason is not CloseReason.USER or detail == COMMAND:
            self._tell(handoff, f"ended:{handoff.id}:{handoff.closed_at}", self._said(name, handoff))
        ended = ended_event(handoff, reason, detail, transcript)
        with self._ledger.write() as tx:
            tx.bridges.put(NAME, f"{ONCE}ended:{handoff.conversation_id}", ended, now=self._ledger.now_ms())
        if self._resume is not None:
            body = {**ended, "conversationId": handoff.conversation_id, "userId": handoff.attributes.get("user_id")}
            resume = self._resume

            def tell(part: Payload) -> None:
                resume.call("POST", "", doing="telling the bot that the session ended", body=part)

            self._delivery.send(f"resume:{handoff.id}:{handoff.closed_at}", [body], tell)

    def tell_failed(self, app: Flask, *, handoff: Handoff, **extra: Any) -> None:
        """Receiver of ``handoff_failed``: nobody will come."""
        if self._is_ours(handoff):
            self._tell(handoff, f"failed:{handoff.id}", self._said(notices.TIMED_OUT, handoff))

    def _tell(self, handoff: Handoff, key: str, text: str) -> None:
        if text:
            self._send(handoff, key, [{"type": "text", "text": text}])

    def _send(self, handoff: Handoff, key: str, parts: list[Payload]) -> None:
        """Create messages as the bot; Botpress has no idempotency key, so after doubt we look first."""

        def create(part: Payload) -> None:
            payload = {name: value for name, value in part.items() if name != "type"}
            body = {
                "conversationId": handoff.conversation_id,
                "userId": self._bot_id,
                "type": part["type"],
                "payload": payload,
                "tags": {},
            }
            self._api.call("POST", "/v1/chat/messages", doing="sending to Botpress", body=body)

        def is_there(part: Payload, since: int) -> bool:
            payload = {name: value for name, value in part.items() if name != "type"}
            found = self._api.call(
                "GET",
                "/v1/chat/messages",
                doing="reading from Botpress",
                params={"conversationId": handoff.conversation_id},
            )
            return any(
                one.get("direction") == "outgoing"
                and one.get("type") == part["type"]
                and payload.items() <= (one.get("payload") or {}).items()
                and _created(one) >= since - 60_000
                for one in found.get("messages") or ()
                if isinstance(one, dict)
            )

        self._delivery.send(key, parts, create, is_there=is_there)

    def _webchat_user(self, handoff: Handoff, operator: Operator | None) -> str | None:
        """In webchat the agent has a face of their own; None elsewhere, or when Botpress does not give one."""
        if handoff.attributes.get("integration") != "webchat" or operator is None or operator.name is None:
            return None
        given = {"name": operator.name, "pictureUrl": operator.avatar, "email": operator.email}
        user = {"id": operator.actor_id, "conversationId": handoff.conversation_id}
        asked = {**{name: value for name, value in given.items() if value}, "user": user}
        try:
            body = {"type": "webchat:getOrCreateUser", "input": asked}
            found = self._api.call("POST", "/v1/chat/actions", doing="introducing an agent", body=body)
        except BotpressRejected:
            return None
        output = found.get("output")
        user_id = output.get("userId") if isinstance(output, dict) else None
        return user_id if isinstance(user_id, str) and user_id else None

    def _said(self, name: str, handoff: Handoff) -> str:
        return notice(name, _overrides(handoff), self._messages)

    def _is_ours(self, handoff: Handoff) -> bool:
        return handoff.attributes.get("bridge") == NAME


def _overrides(handoff: Handoff) -> Mapping[str, Any]:
    found = handoff.attributes.get("messages")
    return found if isinstance(found, Mapping) else {}


def _contact(user: dict[str, Any]) -> Contact | None:
    """Whom HubSpot should know; an e-mail field without an ``@`` holds a phone number."""
    email, phone = text_of(user, "email"), text_of(user, "phone")
    return Contact(phone=phone or None, email=email or None) if email or phone else None


def _created(message: Mapping[str, Any]) -> int:
    try:
        return parse_time(message.get("createdAt"))
    except ValueError:
        return 0
