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
from ..domain import CloseReason, Handoff, HistoryEntry, Message, Operator
from ..errors import DeliveryFailed, HITLError, LedgerUnavailable
from ..hubspot.transport import deadline
from ..runtime import get_runtime
from . import notices
from .delivery import ONCE, Delivery, Payload
from .door import add_routes, read_object, require_bearer, text_of
from .ended import ended_event, failed_event
from .messages import FILE_HOSTS, MEDIA, to_agent, to_botpress
from .options import Options
from .relay import Relay
from .service import BotpressRejected, BotpressUnavailable, Service
from .session import HISTORY, Sessions, contact_of, created, history_of

if TYPE_CHECKING:
    from ..extension import HubSpotHITL

logger = logging.getLogger(__name__)

NAME = "studio"
START_SECONDS = 1.5
"""What ``start`` may take in all; a handoff that HubSpot has not taken by then is opened later."""
HISTORY_SECONDS = 0.5
"""What reading the conversation before may take of it."""
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
        self._sessions = Sessions(app, NAME, messages)
        self._delivery = Delivery(self._ledger, NAME)
        self._runtime.services.remote_files.allow(*FILE_HOSTS)
        self._relay = Relay(app, NAME, {"timeout": self._sessions.timeout})
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
                said = self._sessions.said(notices.HANDOFF, handoff)
                return {"status": status, "session": handoff.id, "message": said}
        facts = {"message_id": message_id, "user_id": text_of(body, "userId")}
        facts["integration"] = text_of(body, "integration")
        try:
            with deadline(START_SECONDS):
                handoff = self._sessions.open(
                    conversation_id,
                    contact=contact_of(text_of(user, "email"), text_of(user, "phone")),
                    name=text_of(user, "name") or None,
                    title=text_of(body, "title", limit=10_000) or None,
                    description=text_of(body, "summary", limit=100_000) or None,
                    history=self._history(conversation_id),
                    inbox_id=text_of(body, "inbox") or None,
                    overrides=overrides,
                    **facts,
                )
        except LedgerUnavailable:
            raise
        except (HITLError, ValueError) as error:
            logger.warning("A conversation of Botpress's can't be handed over: %s", type(error).__name__)
            return {"status": "failed", "message": self._sessions.said(notices.TIMED_OUT, overrides)}
        with self._ledger.write() as tx:
            self._sessions.watch(tx, self._relay, handoff, body.get("assignmentTimeout"), now=self._ledger.now_ms())
        self._relay.wake()
        said = self._sessions.said(notices.HANDOFF, handoff)
        return {"status": "open", "session": handoff.id, "message": said}

    def _history(self, conversation_id: str) -> list[HistoryEntry]:
        """The conversation so far, oldest first; empty when Botpress does not tell it at once."""
        messages: list[dict[str, Any]] = []
        token: object = ""
        try:
            with deadline(HISTORY_SECONDS):
                while isinstance(token, str) and len(messages) < HISTORY:
                    page, token = self._page(conversation_id, token)
                    messages += page
        except (BotpressUnavailable, BotpressRejected):
            logger.info("The conversation before a handoff could not be read to its beginning")
        return history_of(messages[:HISTORY], lambda one: one.get("direction") == "incoming")

    def _page(self, conversation_id: str, token: str = "") -> tuple[list[dict[str, Any]], object]:
        """A page of a conversation's messages, newest first, and the token of the next one."""
        asked = {"conversationId": conversation_id, **({"nextToken": token} if token else {})}
        answer = self._api.call("GET", "/v1/chat/messages", doing="reading from Botpress", params=asked)
        found, meta = answer.get("messages"), answer.get("meta")
        messages = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        return messages, meta.get("nextToken") if isinstance(meta, dict) and messages else None

    def _turn(self, body: dict[str, Any]) -> ResponseReturnValue:
        """Who answers the user? ``handled``: the agent has it. The same turn again is the same message."""
        conversation_id = text_of(body, "conversationId", required=True)
        key = text_of(body, "messageId") or text_of(body, "eventId", required=True)
        payload = body.get("payload") if isinstance(body.get("payload"), dict) else {}
        kind = text_of(body, "type")
        text = text_of(body, "text", limit=1_000_000)
        if kind not in MESSAGE_TYPES:
            if not text:  # no message of the user's
                with self._ledger.read() as tx:
                    return {"handled": tx.records.open_of(conversation_id) is not None}
            payload = {}
        said = to_agent({**payload, "type": kind} if payload else {"type": "text", "text": text})
        if self._sessions.ends(conversation_id, said.text, key) or verbs.send(
            self._runtime, conversation_id, said.text, attachments=said.files, message_id=key
        ):
            return {"handled": True}
        context = self._context(conversation_id, key)
        return {"handled": False, "context": context} if context else {"handled": False}

    def _context(self, conversation_id: str, key: str) -> dict[str, Any] | None:
        """What the bot should know of the session that has ended: given with one turn, and again if it is replayed."""
        name = f"{ONCE}ended:{conversation_id}"
        with self._ledger.read() as tx:
            found = tx.bridges.get(NAME, name)
        if found is None or found.get("turn") == key:
            return found and dict(found["event"])
        with self._ledger.write() as tx:
            if found.get("turn") is None:
                tx.bridges.put(NAME, name, {**found, "turn": key}, now=self._ledger.now_ms())
                return dict(found["event"])
            tx.bridges.delete(NAME, name)
        return None

    def _stop(self, body: dict[str, Any]) -> ResponseReturnValue:
        conversation_id = text_of(body, "conversationId", required=True)
        detail = text_of(body, "reason") or "the bot ended it"
        verbs.stop(self._runtime, conversation_id, reason="user", detail=detail)
        return {"status": "closed"}

    # What the user reads ---------------------------------------------------------------------------------

    def tell_assigned(
        self, app: Flask, *, handoff: Handoff, operator: Operator, previous: Operator | None, **extra: Any
    ) -> None:
        """Receiver of ``operator_assigned``: told once; who takes over from a colleague shows by the name."""
        if self._sessions.is_ours(handoff) and previous is None:
            self._tell(
                handoff, f"assigned:{handoff.id}:{handoff.assigned_at}", self._sessions.said(notices.ASSIGNED, handoff)
            )

    def relay_message(self, app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
        """Receiver of ``operator_message``."""
        if not self._sessions.is_ours(handoff):
            return
        name = message.operator.name if message.operator else None
        user_id = self._webchat_user(handoff, message.operator)
        parts = to_botpress(message, prefix=f"{name}: " if name and user_id is None else "")
        if user_id is not None:
            parts = [{**part, "userId": user_id} for part in parts]
        try:
            self._send(handoff, f"message:{message.message_id}", parts)
        except BotpressRejected:
            text = self._sessions.said(notices.INCOMPATIBLE, handoff)
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
        if not self._sessions.is_ours(handoff):
            return
        self._tell(handoff, f"ended:{handoff.id}:{handoff.closed_at}", self._sessions.farewell(handoff, reason, detail))
        self._resume_bot(handoff, ended_event(handoff, reason, detail, transcript))

    def tell_failed(self, app: Flask, *, handoff: Handoff, **extra: Any) -> None:
        """Receiver of ``handoff_failed``: nobody will come."""
        if self._sessions.is_ours(handoff):
            self._tell(handoff, f"failed:{handoff.id}", self._sessions.said(notices.TIMED_OUT, handoff))
            self._resume_bot(handoff, failed_event(handoff.id))

    def _resume_bot(self, handoff: Handoff, event: Payload) -> None:
        """Keep for the next turn what the bot should know, and tell the webhook integration, if there is one."""
        with self._ledger.write() as tx:
            kept = {"event": event}
            tx.bridges.put(NAME, f"{ONCE}ended:{handoff.conversation_id}", kept, now=self._ledger.now_ms())
        resume = self._resume
        if resume is None:
            return
        body = {**event, "conversationId": handoff.conversation_id, "userId": handoff.attributes.get("user_id")}

        def tell(part: Payload) -> None:
            resume.call("POST", "", doing="telling the bot that the session ended", body=part)

        try:
            self._delivery.send(f"resume:{handoff.id}:{handoff.closed_at}", [body], tell)
        except BotpressRejected as error:
            logger.warning("Botpress does not take the end of a session: %s", error)

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
            return any(
                one.get("direction") == "outgoing"
                and one.get("type") == part["type"]
                and payload.items() <= (one.get("payload") or {}).items()
                and created(one) >= since - 60_000
                for one in self._page(handoff.conversation_id)[0]
            )

        self._delivery.send(key, parts, create, is_there=is_there)

    def _webchat_user(self, handoff: Handoff, operator: Operator | None) -> str | None:
        """In webchat the agent has a face of their own; None elsewhere, or when Botpress does not give one."""
        if handoff.attributes.get("integration") != "webchat" or operator is None or operator.name is None:
            return None
        key = f"{ONCE}webchat:{handoff.id}:{operator.actor_id}"
        with self._ledger.read() as tx:
            known = tx.bridges.get(NAME, key)
        if known is not None:
            return str(known)
        given = {"name": operator.name, "pictureUrl": operator.avatar, "email": operator.email}
        user = {"id": operator.actor_id, "conversationId": handoff.conversation_id}
        asked = {**{name: value for name, value in given.items() if value}, "user": user}
        try:
            body = {"type": "webchat:getOrCreateUser", "input": asked}
            found = self._api.call("POST", "/v1/chat/actions", doing="introducing an agent", body=body)
        except (BotpressRejected, BotpressUnavailable):
            return None  # the agent's name goes before the text instead
        output = found.get("output")
        user_id = output.get("userId") if isinstance(output, dict) else None
        if not isinstance(user_id, str) or not user_id:
            return None
        with self._ledger.write() as tx:
            tx.bridges.put(NAME, key, user_id, now=self._ledger.now_ms())
        return user_id
