"""The host owns the user's channel and relays it: to Botpress's Chat API, or to HubSpot while a handoff is open.

The Chat integration posts every signal of the bot's to one route of ours, without retry; what got lost is read back.
Facts of the wire: Botpress, ``integrations/chat`` and ``packages/chat-api``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flask import Flask, request
from flask.typing import ResponseReturnValue

from .. import signals, verbs
from ..clock import to_datetime
from ..domain import CloseReason, Contact, Handoff, HistoryEntry, Message, Operator
from ..errors import HITLError, LedgerUnavailable
from ..hubspot.content import parse_time
from ..hubspot.text import scrub
from ..hubspot.transport import hide
from ..ledger import Event, Transaction
from ..runtime import get_runtime
from ..tasks import Done, Outcome
from . import notices
from .delivery import Delivery, Payload
from .door import Refused, add_routes, read_object, same
from .ended import COMMAND, ended_event
from .messages import FILE_HOSTS, to_agent, to_botpress
from .notices import notice
from .options import Options
from .relay import Relay
from .service import BotpressRejected, BotpressUnavailable, Service

if TYPE_CHECKING:
    from ..extension import HubSpotHITL

logger = logging.getLogger(__name__)

NAME = "chat"
POLLS = (10, 30, 120)
"""Seconds after a message of the user's at which the bot's answers are read, in case a signal was lost."""
HISTORY = 100
"""How many messages before the handoff agents see."""
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,70}")

OnMessage = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class ChatUser:
    """A user of the host's channel. ``id`` is the host's own and names the conversation in ``hitl.get`` and so on."""

    id: str
    name: str | None = field(default=None, repr=False)
    picture_url: str | None = field(default=None, repr=False)
    profile: str | None = field(default=None, repr=False)
    contact: str | None = field(default=None, repr=False)
    """A phone number with country code or an e-mail address, when the host knows it; the bot may tell it instead."""


class ChatBridge:
    """``bridge = ChatBridge(hitl, on_message=show)`` and ``bridge.init_app(app)`` after ``hitl.init_app(app)``.

    ``chat_url`` is ``https://chat.botpress.cloud/<webhook id>``; ``encryption_key`` and ``webhook_secret`` are those of
    the Chat integration's configuration, whose webhook URL is ``<PUBLIC_URL><prefix>/botpress/chat``. Each falls back
    to ``HUBSPOT_HITL_BOTPRESS_<OPTION>``; so do ``resume`` (``event``, ``none``) and ``bot_messages`` (``drop``,
    ``park``: what becomes of the bot's messages while a human has the conversation). ``messages`` replaces texts of
    :data:`.notices.DEFAULTS`.

    ``on_message(user, payload, **extra)`` shows a message to the user: a :class:`ChatUser`, a Botpress payload with its
    ``type``, and ``author`` (``bot``, ``operator``, ``system``), ``message_id``, ``name``, ``avatar``, ``metadata``. It
    is called at least once for each message, in order, and again later when it raises.
    """

    def __init__(
        self,
        hitl: HubSpotHITL,
        *,
        chat_url: str | None = None,
        encryption_key: str | None = None,
        webhook_secret: str | None = None,
        on_message: OnMessage | None = None,
        resume: str | None = None,
        bot_messages: str | None = None,
        messages: Mapping[str, str] | None = None,
    ) -> None:
        self._hitl = hitl
        self._chat_url, self._encryption_key, self._webhook_secret = chat_url, encryption_key, webhook_secret
        self._on_message, self._resume, self._bot_messages = on_message, resume, bot_messages
        self._messages = notices.known(messages)

    def init_app(self, app: Flask) -> None:
        """Add the route and connect the signals.

        :raises ConfigError: listing everything that is wrong with the options.
        """
        options = Options(app)
        url = options.url("chat_url", self._chat_url, example="https://chat.botpress.cloud/<webhook id>")
        key = options.secret("encryption_key", self._encryption_key, example="the Chat integration's encryption key")
        secret = options.secret("webhook_secret", self._webhook_secret, example="the Chat integration's webhook secret")
        on_message = options.callback("on_message", self._on_message)
        resume = options.choice("resume", self._resume, "event", "none")
        parks = options.choice("bot_messages", self._bot_messages, "drop", "park") == "park"
        options.check()
        bridge = _Bridge(app, url, key, secret, on_message, self._messages, resumes=resume == "event", parks=parks)
        app.extensions[f"{__name__}:bridge"] = bridge

    def user_message(
        self,
        user: ChatUser | Mapping[str, Any] | str,
        payload: Mapping[str, Any] | str,
        *,
        message_id: str | None = None,
    ) -> bool:
        """Take a message of the user's: True when a human has it, False when it goes to the bot. On disk either way.

        ``user`` is a :class:`ChatUser`, its fields as a mapping, or just the id; ``payload`` a Botpress payload or
        text. The same ``message_id`` twice is one message.

        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        """
        from flask import current_app

        bridge: _Bridge = current_app.extensions[f"{__name__}:bridge"]
        given = {"type": "text", "text": payload} if isinstance(payload, str) else dict(payload)
        return bridge.user_message(_user(user), given, message_id)


def user_key(user_id: str, encryption_key: str) -> str:
    """The ``x-user-key`` of a user: a JWT, HS256, ``{"id": …}``."""

    def part(value: object) -> bytes:
        raw = json.dumps(value, separators=(",", ":")).encode() if not isinstance(value, bytes) else value
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part({"id": user_id})
    return (signed + b"." + part(hmac.digest(encryption_key.encode(), signed, "sha256"))).decode("ascii")


def botpress_id(user_id: str) -> str:
    """The host's user id as Botpress takes it: as it is, or a digest when it has other characters or is too long."""
    if _SAFE_ID.fullmatch(user_id):
        return user_id
    return f"u_{hashlib.sha256(user_id.encode()).hexdigest()[:40]}"


class _Bridge:
    """The bridge on one app; it remembers ``user:<id>``, ``conversation:<id>`` → user id, and ``starting:<id>``."""

    def __init__(
        self,
        app: Flask,
        chat_url: str,
        encryption_key: str,
        webhook_secret: str,
        on_message: OnMessage,
        messages: Mapping[str, str],
        *,
        resumes: bool,
        parks: bool,
    ) -> None:
        self._app = app
        self._runtime = get_runtime(app)
        self._ledger = self._runtime.ledger
        self._key, self._secret = encryption_key, webhook_secret
        self._on_message = on_message
        self._messages = messages
        self._resumes, self._parks = resumes, parks
        hide(chat_url.rpartition("/")[2])
        self._chat = Service(chat_url, clock=self._runtime.services.clock, proxy=self._runtime.settings.proxy)
        self._delivery = Delivery(self._ledger, NAME)
        self._runtime.services.remote_files.allow(*FILE_HOSTS)
        operations = {
            "to_bot": self._to_bot,
            "route": self._route_again,
            "show": self._show,
            "start": self._start,
            "stop": self._stop,
            "poll": self._poll,
            "timeout": self._timeout,
        }
        self._relay = Relay(app, NAME, operations, lost=self._lost)
        add_routes(app, "chat", "/chat", {"/": self._signal})
        signals.operator_assigned.connect(self.tell_assigned, app)
        signals.operator_message.connect(self.show_message, app)
        signals.conversation_completed.connect(self.tell_ended, app)
        signals.handoff_failed.connect(self.tell_failed, app)

    # From the user ---------------------------------------------------------------------------------------

    def user_message(self, user: ChatUser, payload: Payload, message_id: str | None) -> bool:
        """See :meth:`ChatBridge.user_message`."""
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            known = tx.bridges.get(NAME, f"user:{user.id}") or {}
            told = {name: value for name, value in asdict(user).items() if value is not None}
            if not told.items() <= known.items():
                tx.bridges.put(NAME, f"user:{user.id}", {**known, **told}, now=now)
            if tx.bridges.get(NAME, f"starting:{user.id}") is not None:
                # The bot has called for a human, and the handoff is about to open: then it is known whose this is.
                held = {"payload": payload, "message_id": message_id}
                self._relay.put(tx, user.id, "route", held, now=now, dedupe=_dedupe("held", user.id, message_id))
                return True
        return self._route(user.id, payload, message_id)

    def _route(self, user_id: str, payload: Payload, message_id: str | None) -> bool:
        """To the agent while a handoff is open, else to the bot; decided in the transaction that could end it."""
        said = to_agent(payload)
        with self._ledger.read() as tx:
            record = tx.records.open_of(user_id)
        if record is not None and notices.is_close_command(said.text, _overrides(record.handoff), self._messages):
            return self._end_by_user(record.handoff, message_id)

        def to_bot(tx: Transaction) -> None:
            now = self._ledger.now_ms()
            dedupe = _dedupe("to-bot", user_id, message_id)
            self._relay.put(tx, f"bot:{user_id}", "to_bot", {"payload": payload}, now=now, dedupe=dedupe)

        return verbs.send(
            self._runtime, user_id, said.text, attachments=said.files, message_id=message_id, otherwise=to_bot
        )

    def _route_again(self, event: Event) -> None:
        message_id = event.payload["message_id"] or f"event-{event.id}"
        self._route(event.payload["key"], event.payload["payload"], message_id)

    def _end_by_user(self, handoff: Handoff, message_id: str | None) -> bool:
        said = notice(notices.CANCELLED, _overrides(handoff), self._messages)
        return verbs.stop(
            self._runtime, handoff.conversation_id, reason="user", detail=COMMAND, farewell=said, message_id=message_id
        )

    # To the bot ------------------------------------------------------------------------------------------

    def _to_bot(self, event: Event) -> Outcome:
        user_id = event.payload["key"].removeprefix("bot:")
        conversation_id = self._conversation(user_id)
        payload = event.payload["payload"]

        def create(part: Payload) -> None:
            self._call("POST", "/messages", user_id, {"conversationId": conversation_id, "payload": part})

        def is_there(part: Payload, since: int) -> bool:
            return any(
                one.get("userId") == botpress_id(user_id)
                and one.get("payload") == part
                and _created(one) >= since - 60_000
                for one in self._messages_of(user_id, conversation_id)
            )

        sent_at = self._ledger.now_ms()
        self._delivery.send(f"to-bot:{event.id}", [payload], create, is_there=is_there)

        def watch(tx: Transaction) -> None:
            now = self._ledger.now_ms()
            facts = {"conversation": conversation_id, "since": sent_at, "polls": 0}
            lane = f"timer:{self._relay.topic}:{user_id}"
            self._relay.put(tx, user_id, "poll", facts, now=now, due_at=now + POLLS[0] * 1000, lane=lane)

        return Done(watch)

    def _conversation(self, user_id: str) -> str:
        """The user's conversation with the bot, made when there is none; Botpress chooses its id, so that it is the
        same in all its APIs."""
        with self._ledger.read() as tx:
            user = tx.bridges.get(NAME, f"user:{user_id}") or {}
        profile = {
            name: user[field]
            for name, field in (("name", "name"), ("pictureUrl", "picture_url"), ("profile", "profile"))
            if user.get(field)
        }
        if user.get("told") != profile:
            self._call("POST", "/users/get-or-create", user_id, profile)
        conversation_id = user.get("conversation")
        if conversation_id is None:
            found = self._call("POST", "/conversations", user_id, {}).get("conversation") or {}
            conversation_id = found.get("id")
            if not isinstance(conversation_id, str) or not conversation_id:
                raise BotpressUnavailable("making a conversation: Botpress gave it no id")
        if user.get("told") != profile or user.get("conversation") is None:
            with self._ledger.write() as tx:
                now = self._ledger.now_ms()
                current = tx.bridges.get(NAME, f"user:{user_id}", lock=True) or {}
                changed = {**current, "told": profile, "conversation": conversation_id}
                tx.bridges.put(NAME, f"user:{user_id}", changed, now=now)
                tx.bridges.put(NAME, f"conversation:{conversation_id}", user_id, now=now)
        return str(conversation_id)

    def _call(self, method: str, path: str, user_id: str, body: Payload | None = None) -> dict[str, Any]:
        headers = {"x-user-key": user_key(botpress_id(user_id), self._key)}
        return self._chat.call(method, path, doing="asking Botpress's Chat API", body=body, headers=headers)

    def _messages_of(self, user_id: str, conversation_id: str) -> list[dict[str, Any]]:
        """The newest messages of a conversation, newest first."""
        path = f"/conversations/{quote(conversation_id, safe='')}/messages"
        found = self._call("GET", path, user_id).get("messages")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    # From the bot ----------------------------------------------------------------------------------------

    def _signal(self) -> ResponseReturnValue:
        """One signal of the Chat integration's; what we do not use, and conversations we do not know, are ignored."""
        if not same(request.headers.get("x-secret-key"), self._secret):
            raise Refused(401, "the secret is missing or wrong")
        body = read_object()
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
        user_id = tx.bridges.get(NAME, f"conversation:{conversation_id}")
        if user_id is None:
            return
        signal_id = data.get("id")
        if not isinstance(signal_id, str) or not signal_id:
            signal_id = _digest(conversation_id, data.get("createdAt"), payload)
        at = min(_created(data) or now, now)
        if kind == "event_created":
            wanted = {"hitl.start": "start", "hitl.stop": "stop"}.get(str(payload.get("kind")))
            is_new = wanted is not None and self._relay.put(
                tx, user_id, wanted, {"payload": payload}, now=now, sort_at=at, dedupe=f"in:{signal_id}"
            )
            if is_new and wanted == "start":
                tx.bridges.put(NAME, f"starting:{user_id}", now, now=now)
            return
        is_human = tx.records.open_of(user_id) is not None or tx.bridges.get(NAME, f"starting:{user_id}") is not None
        if is_human and not self._parks:
            logger.info("A message of the bot's was dropped: a human has the conversation")
            return
        facts = {
            "payload": payload,
            "extra": {"author": "bot", "message_id": signal_id, "metadata": data.get("metadata")},
            "parked": is_human,
        }
        lane = f"{self._relay.topic}:parked:{user_id}" if is_human else None
        self._relay.put(tx, user_id, "show", facts, now=now, sort_at=at, dedupe=f"in:{signal_id}", lane=lane)

    def _show(self, event: Event) -> None:
        from .relay import NotYet

        if event.payload["parked"]:
            with self._ledger.read() as tx:
                if tx.records.open_of(event.payload["key"]) is not None:
                    raise NotYet(5.0)
        self._call_host(event.payload["key"], event.payload["payload"], **event.payload["extra"])

    def _call_host(self, user_id: str, payload: Payload, **extra: Any) -> None:
        with self._ledger.read() as tx:
            known = tx.bridges.get(NAME, f"user:{user_id}") or {}
        names = ("name", "picture_url", "profile", "contact")
        user = ChatUser(user_id, **{name: known.get(name) for name in names})
        extra = {"name": None, "avatar": None, "metadata": None, **extra}
        self._app.ensure_sync(self._on_message)(user, payload, **extra)

    def _poll(self, event: Event) -> Outcome:
        """Signals are sent once: read what the bot has said since, and go on for a while."""
        facts = event.payload
        user_id, conversation_id = facts["key"], facts["conversation"]
        found = [
            one
            for one in reversed(self._messages_of(user_id, conversation_id))
            if one.get("userId") != botpress_id(user_id) and _created(one) >= facts["since"] - 1_000
        ]

        def take(tx: Transaction) -> None:
            now = self._ledger.now_ms()
            for one in found:
                self._take(tx, "message_created", {**one, "conversationId": conversation_id})
            polls = facts["polls"] + 1
            if polls < len(POLLS) and not found:
                again = {"conversation": conversation_id, "since": facts["since"], "polls": polls}
                lane, due_at = str(event.lane), now + POLLS[polls] * 1000
                self._relay.put(tx, user_id, "poll", again, now=now, due_at=due_at, lane=lane)

        return Done(take)

    # The handoff -----------------------------------------------------------------------------------------

    def _start(self, event: Event) -> Outcome:
        user_id, asked = event.payload["key"], event.payload["payload"]
        with self._ledger.read() as tx:
            user = tx.bridges.get(NAME, f"user:{user_id}") or {}
        overrides = notices.known(asked.get("messages"))
        try:
            opening = verbs.check_opening(
                self._runtime,
                user_id,
                contact=_contact(asked, user),
                name=_text(asked, "name") or user.get("name"),
                title=_text(asked, "title") or None,
                description=_text(asked, "summary") or _text(asked, "description") or None,
                history=self._history(user_id, user.get("conversation")),
                inbox_id=_text(asked, "inbox") or None,
                portal_id=None,
                assign_to=None,
                attributes={"bridge": NAME, "messages": overrides, "conversation": user.get("conversation")},
            )
            handoff = verbs.start(self._runtime, opening)
        except LedgerUnavailable:
            raise
        except (HITLError, ValueError) as error:
            why = type(error).__name__
            logger.error("A conversation of the bot's can't be handed over: %s", why)  # noqa: TRY400 - may hold a contact
            self._tell_user(user_id, f"failed:{event.id}", notice(notices.TIMED_OUT, overrides, self._messages))
            failed = {"kind": "hitl.ended", "v": 1, "session": "", "reason": "error", "agent": {}, "transcript": []}
            self._tell_bot(user_id, user.get("conversation"), f"failed-bot:{event.id}", failed)
            return Done(lambda tx: tx.bridges.delete(NAME, f"starting:{user_id}"))
        said = notice(notices.HANDOFF, overrides, self._messages)
        self._tell_user(user_id, f"handoff:{handoff.id}", said)
        return Done(lambda tx: self._started(tx, handoff, asked.get("assignmentTimeout")))

    def _started(self, tx: Transaction, handoff: Handoff, given: object) -> None:
        tx.bridges.delete(NAME, f"starting:{handoff.conversation_id}")
        seconds = self._runtime.settings.assignment_timeout
        if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 10**7:
            seconds = float(given)
        if seconds > 0:
            now = self._ledger.now_ms()
            lane, due_at = f"timer:{self._relay.topic}:assign:{handoff.id}", now + int(seconds * 1000)
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

    def _stop(self, event: Event) -> None:
        verbs.stop(self._runtime, event.payload["key"], reason="user", detail="the bot ended it")

    def _lost(self, tx: Transaction, event: Event, now: int) -> None:
        if event.payload["operation"] == "start":
            tx.bridges.delete(NAME, f"starting:{event.payload['key']}")

    def _history(self, user_id: str, conversation_id: str | None) -> list[HistoryEntry]:
        """The conversation with the bot, oldest first; empty when Botpress can't be asked now."""
        if conversation_id is None:
            return []
        try:
            found = self._messages_of(user_id, conversation_id)[:HISTORY]
        except (BotpressUnavailable, BotpressRejected):
            logger.info("The conversation before a handoff could not be read")
            return []
        mine = botpress_id(user_id)
        entries = []
        for one in reversed(found):
            payload = one.get("payload")
            if isinstance(payload, dict):
                said = to_agent(payload)
                text = scrub("\n".join(filter(None, [said.text, *(file.url or "" for file in said.files)])))
                author = "user" if one.get("userId") == mine else "bot"
                entries.append(HistoryEntry(author, text, to_datetime(_created(one)) if _created(one) else None))
        return entries

    # From the agent --------------------------------------------------------------------------------------

    def tell_assigned(
        self, app: Flask, *, handoff: Handoff, operator: Operator, previous: Operator | None, **extra: Any
    ) -> None:
        """Receiver of ``operator_assigned``."""
        if not self._is_ours(handoff):
            return
        key = f"assigned:{handoff.id}:{handoff.assigned_at}:{operator.actor_id}"
        if previous is None:
            said = notice(notices.ASSIGNED, _overrides(handoff), self._messages)
            self._tell_user(handoff.conversation_id, key, said, name=operator.name, avatar=operator.avatar)
        event = {"kind": "hitl.assigned", "v": 1, "session": handoff.id, "agent": {"name": operator.name or ""}}
        self._tell_bot(handoff.conversation_id, handoff.attributes.get("conversation"), f"{key}:bot", event)

    def show_message(self, app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
        """Receiver of ``operator_message``: each part is shown once."""
        if not self._is_ours(handoff):
            return
        operator = message.operator
        parts = [
            {"payload": part, "message_id": message.message_id if number == 0 else f"{message.message_id}:{number}"}
            for number, part in enumerate(to_botpress(message))
        ]

        def show(part: Payload) -> None:
            self._call_host(
                handoff.conversation_id,
                part["payload"],
                author="operator",
                message_id=part["message_id"],
                name=operator.name if operator else None,
                avatar=operator.avatar if operator else None,
            )

        self._delivery.send(f"message:{message.message_id}", parts, show)

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
        """Receiver of ``conversation_completed``."""
        if not self._is_ours(handoff):
            return
        key = f"ended:{handoff.id}:{handoff.closed_at}"
        name = {CloseReason.TIMEOUT: notices.TIMED_OUT, CloseReason.USER: notices.CLOSED}.get(reason, notices.STOPPED)
        if reason is not CloseReason.USER or detail == COMMAND:
            self._tell_user(handoff.conversation_id, key, notice(name, _overrides(handoff), self._messages))
        if self._resumes:
            event = ended_event(handoff, reason, detail, transcript)
            self._tell_bot(handoff.conversation_id, handoff.attributes.get("conversation"), f"{key}:bot", event)

    def tell_failed(self, app: Flask, *, handoff: Handoff, **extra: Any) -> None:
        """Receiver of ``handoff_failed``."""
        if self._is_ours(handoff):
            said = notice(notices.TIMED_OUT, _overrides(handoff), self._messages)
            self._tell_user(handoff.conversation_id, f"failed:{handoff.id}", said)
            event = {"kind": "hitl.ended", "v": 1, "session": handoff.id, "reason": "error"}
            event |= {"agent": {}, "transcript": []}
            conversation_id = handoff.attributes.get("conversation")
            self._tell_bot(handoff.conversation_id, conversation_id, f"failed-bot:{handoff.id}", event)

    def _tell_user(self, user_id: str, key: str, text: str, **extra: Any) -> None:
        """Show the user a text of ours, once."""
        if text:

            def show(part: Payload) -> None:
                self._call_host(user_id, part, author="system", message_id=key, **extra)

            self._delivery.send(key, [{"type": "text", "text": text}], show)

    def _tell_bot(self, user_id: str, conversation_id: str | None, key: str, event: Payload) -> None:
        """Send the bot a custom event, once as far as is known."""
        if conversation_id is None:
            return

        def send(part: Payload) -> None:
            self._call("POST", "/events", user_id, {"conversationId": conversation_id, "payload": part})

        try:
            self._delivery.send(key, [event], send)
        except BotpressRejected as error:
            logger.warning("Botpress does not take an event of ours: %s", error)

    def _is_ours(self, handoff: Handoff) -> bool:
        return handoff.attributes.get("bridge") == NAME


def _user(given: ChatUser | Mapping[str, Any] | str) -> ChatUser:
    if isinstance(given, ChatUser):
        return given
    if isinstance(given, str):
        return ChatUser(given)
    names = ("name", "picture_url", "profile", "contact")
    return ChatUser(str(given["id"]), **{name: given[name] for name in names if given.get(name) is not None})


def _contact(asked: Mapping[str, Any], user: Mapping[str, Any]) -> Contact | str | None:
    """Whom HubSpot should know: as the bot says, else as the host does. An e-mail field without ``@`` is a number."""
    email, phone = _text(asked, "email"), _text(asked, "phone")
    if email or phone:
        return Contact(phone=phone or None, email=email or None)
    return user.get("contact")


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _overrides(handoff: Handoff) -> Mapping[str, Any]:
    found = handoff.attributes.get("messages")
    return found if isinstance(found, Mapping) else {}


def _created(given: Mapping[str, Any]) -> int:
    """Its ``createdAt`` in epoch ms, 0 when there is none."""
    try:
        return parse_time(given.get("createdAt"))
    except ValueError:
        return 0


def _dedupe(what: str, user_id: str, message_id: str | None) -> str | None:
    return None if message_id is None else f"{what}:{_digest(user_id, message_id)}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]
