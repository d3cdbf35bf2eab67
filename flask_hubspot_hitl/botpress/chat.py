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

from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue

from .. import signals, verbs
from ..clock import to_ms
from ..domain import CloseReason, Handoff, HistoryEntry, Message, Operator
from ..errors import HITLError, LedgerUnavailable
from ..hubspot.transport import hide
from ..ledger import Event, Transaction
from ..runtime import get_runtime
from ..tasks import Done, Outcome
from . import notices
from .delivery import Delivery, Payload
from .door import Refused, add_routes, read_object, same
from .ended import ended_event, failed_event
from .messages import FILE_HOSTS, to_agent, to_botpress
from .options import Options
from .relay import NotYet, Relay
from .service import BotpressRejected, BotpressUnavailable, Service
from .session import HISTORY, Sessions, contact_of, created, history_of

if TYPE_CHECKING:
    from ..extension import HubSpotHITL

logger = logging.getLogger(__name__)

NAME = "chat"
POLLS = (10, 30, 120)
"""Seconds after a message of the user's at which the bot's answers are read, in case a signal was lost."""
RESUMED = "( The human agent has left. )"
"""With ``resume="message"``: what the bot is told in the user's name."""
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
    to ``HUBSPOT_HITL_BOTPRESS_<OPTION>``; so do ``resume`` (how the bot learns of the end: ``event``, the custom event
    ``hitl.ended``; ``message``, a message in the user's name with the event in its metadata; ``none``) and
    ``bot_messages`` (``drop``, ``park``: what becomes of the bot's messages while a human has the conversation).
    ``messages`` replaces texts of :data:`.notices.DEFAULTS`.

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
        resume = options.choice("resume", self._resume, "event", "message", "none")
        parks = options.choice("bot_messages", self._bot_messages, "drop", "park") == "park"
        options.check()
        bridge = _Bridge(app, url, key, secret, on_message, self._messages, resume=resume, parks=parks)
        app.extensions[f"{__name__}:bridge"] = bridge

    def user_message(
        self,
        user: ChatUser | Mapping[str, Any] | str,
        payload: Mapping[str, Any] | str,
        *,
        message_id: str | None = None,
    ) -> bool:
        """Take a message of the user's: True when a human has it, False when it goes to the bot. On disk either way.

        Between the bot's call for a human and the opening of the handoff it is held, and the answer is True; should
        the handoff fail, the bot gets it.

        ``user`` is a :class:`ChatUser`, its fields as a mapping, or just the id; ``payload`` a Botpress payload or
        text. The same ``message_id`` twice is one message.

        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        """
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
    """The bridge on one app. What it remembers: ``user:<id>``; ``conversation:<id>``, its user's id; ``starting:<id>``,
    how many calls for a human and how many messages held back for them are still to be worked off.
    """

    def __init__(
        self,
        app: Flask,
        chat_url: str,
        encryption_key: str,
        webhook_secret: str,
        on_message: OnMessage,
        messages: Mapping[str, str],
        *,
        resume: str,
        parks: bool,
    ) -> None:
        self._app = app
        self._runtime = get_runtime(app)
        self._ledger = self._runtime.ledger
        self._key, self._secret = encryption_key, webhook_secret
        self._on_message = on_message
        self._resume, self._parks = resume, parks
        self._sessions = Sessions(app, NAME, messages)
        hide(chat_url.rpartition("/")[2])
        self._chat = Service(chat_url, clock=self._runtime.services.clock, proxy=self._runtime.settings.proxy)
        self._delivery = Delivery(self._ledger, NAME)
        self._runtime.services.remote_files.allow(*FILE_HOSTS)
        operations = {
            "to_bot": self._to_bot,
            "event_to_bot": self._event_to_bot,
            "route": self._route_again,
            "show": self._show,
            "drop": self._drop,
            "start": self._start,
            "stop": self._stop,
            "poll": self._poll,
            "timeout": self._sessions.timeout,
        }
        self._relay = Relay(app, NAME, operations, lost=self._lost)
        add_routes(app, "chat", "/chat", {"/": self._signal})
        signals.operator_assigned.connect(self.tell_assigned, app)
        signals.operator_message.connect(self.show_message, app)
        signals.conversation_completed.connect(self.tell_ended, app)
        signals.handoff_failed.connect(self.tell_failed, app)
        signals.message_failed.connect(self.give_back, app)

    # From the user ---------------------------------------------------------------------------------------

    def user_message(self, user: ChatUser, payload: Payload, message_id: str | None) -> bool:
        """See :meth:`ChatBridge.user_message`."""
        if not user.id:
            raise ValueError("a user needs an id")
        told = {name: value for name, value in asdict(user).items() if value is not None}
        with self._ledger.write() as tx:
            known = tx.bridges.get(NAME, f"user:{user.id}", lock=True) or {}
            if not told.items() <= known.items():
                tx.bridges.put(NAME, f"user:{user.id}", {**known, **told}, now=self._ledger.now_ms())
            is_starting = tx.bridges.get(NAME, f"starting:{user.id}") is not None
        if is_starting and self._hold(user.id, payload, message_id):
            return True
        return self._route(user.id, payload, message_id)

    def _hold(self, user_id: str, payload: Payload, message_id: str | None) -> bool:
        """Keep a message until the handoff has opened or failed; False when that is over.

        While any is held the next ones are too, so that none overtakes another.
        """
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            self._relay.reserve(tx, user_id, now=now)
            if tx.bridges.get(NAME, f"starting:{user_id}", lock=True) is None:
                return False
            facts = {"payload": payload, "message_id": message_id}
            if self._relay.put(tx, user_id, "route", facts, now=now, dedupe=_dedupe("held", user_id, message_id)):
                self._pending(tx, user_id, held=1)
        self._relay.wake()
        return True

    def _pending(self, tx: Transaction, user_id: str, *, starts: int = 0, held: int = 0) -> None:
        """Count what has come (or, negative, was worked off) of calls for a human and messages held for them."""
        before = tx.bridges.get(NAME, f"starting:{user_id}", lock=True) or {"starts": 0, "held": 0}
        after = {"starts": max(0, before["starts"] + starts), "held": max(0, before["held"] + held)}
        if any(after.values()):
            tx.bridges.put(NAME, f"starting:{user_id}", after, now=self._ledger.now_ms())
        else:
            tx.bridges.delete(NAME, f"starting:{user_id}")

    def _route(self, user_id: str, payload: Payload, message_id: str | None) -> bool:
        """To the agent while a handoff is open, else to the bot; decided in the transaction that could end it."""
        said = to_agent(payload)
        if self._sessions.ends(user_id, said.text, message_id):
            return True

        def to_bot(tx: Transaction) -> None:
            self._put_to_bot(tx, user_id, payload, message_id)

        return verbs.send(
            self._runtime, user_id, said.text, attachments=said.files, message_id=message_id, otherwise=to_bot
        )

    def _put_to_bot(self, tx: Transaction, user_id: str, payload: Payload, message_id: str | None) -> None:
        now, dedupe = self._ledger.now_ms(), _dedupe("to-bot", user_id, message_id)
        self._relay.put(tx, f"bot:{user_id}", "to_bot", {"payload": payload}, now=now, dedupe=dedupe)

    def _route_again(self, event: Event) -> Outcome:
        user_id = event.payload["key"]
        self._route(user_id, event.payload["payload"], event.payload["message_id"] or f"event-{event.id}")
        return Done(lambda tx: self._pending(tx, user_id, held=-1))

    # To the bot ------------------------------------------------------------------------------------------

    def _to_bot(self, event: Event) -> Outcome:
        user_id = event.payload["key"].removeprefix("bot:")
        conversation_id = self._conversation(user_id)
        payload = event.payload["payload"]

        def create(part: Payload) -> None:
            self._say_as_user(user_id, conversation_id, part)

        def is_there(part: Payload, since: int) -> bool:
            return any(
                one.get("userId") == botpress_id(user_id)
                and one.get("payload") == part
                and created(one) >= since - 60_000
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

    def _say_as_user(self, user_id: str, conversation_id: str, payload: Payload, **more: Any) -> None:
        self._call("POST", "/messages", user_id, {"conversationId": conversation_id, "payload": payload, **more})

    def _event_to_bot(self, event: Event) -> None:
        user_id = event.payload["key"].removeprefix("bot:")
        self._tell_bot(user_id, self._conversation(user_id), f"event:{event.id}", event.payload["event"])

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

    def _messages_of(self, user_id: str, conversation_id: str, *, limit: int = 20) -> list[dict[str, Any]]:
        """The newest messages of a conversation, newest first: whole pages, until there are ``limit`` of them."""
        path = f"/conversations/{quote(conversation_id, safe='')}/messages"
        messages: list[dict[str, Any]] = []
        token: object = ""
        while isinstance(token, str) and len(messages) < limit:
            answer = self._call("GET", path + (f"?nextToken={quote(token, safe='')}" if token else ""), user_id)
            found, meta = answer.get("messages"), answer.get("meta")
            page = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
            messages += page
            token = meta.get("nextToken") if isinstance(meta, dict) and page else None
        return messages

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
        at = min(created(data) or now, now)
        if kind == "event_created":
            wanted = {"hitl.start": "start", "hitl.stop": "stop"}.get(str(payload.get("kind")))
            is_new = wanted is not None and self._relay.put(
                tx, user_id, wanted, {"payload": payload}, now=now, sort_at=at, dedupe=f"in:{signal_id}"
            )
            if is_new and wanted == "start":
                self._pending(tx, user_id, starts=1)
            return
        is_human = tx.records.open_of(user_id) is not None or tx.bridges.get(NAME, f"starting:{user_id}") is not None
        facts = {
            "payload": payload,
            "extra": {"author": "bot", "message_id": signal_id, "metadata": data.get("metadata")},
            "parked": is_human,
        }
        operation = "drop" if is_human and not self._parks else "show"
        lane = f"{self._relay.topic}:parked:{user_id}" if is_human else None
        self._relay.put(tx, user_id, operation, facts, now=now, sort_at=at, dedupe=f"in:{signal_id}", lane=lane)

    def _drop(self, event: Event) -> None:
        """The bot spoke while a human had the conversation. It is known by its id, so no later reading shows it."""
        logger.info("A message of the bot's was dropped: a human has the conversation")

    def _show(self, event: Event) -> None:
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
            if one.get("userId") != botpress_id(user_id) and created(one) >= facts["since"] - 1_000
        ]

        def take(tx: Transaction) -> None:
            now = self._ledger.now_ms()
            newest = tx.records.newest_of(user_id)
            began, ended = (newest.handoff.opened_at, newest.handoff.closed_at) if newest else (None, None)
            for one in found:
                said = created(one)
                if began and ended and to_ms(began) <= said <= to_ms(ended):
                    continue  # the bot spoke while a human had the conversation
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
            handoff = self._sessions.open(
                user_id,
                contact=contact_of(_text(asked, "email"), _text(asked, "phone")) or user.get("contact"),
                name=_text(asked, "name") or user.get("name"),
                title=_text(asked, "title") or None,
                description=_text(asked, "summary") or _text(asked, "description") or None,
                history=self._history(user_id, user.get("conversation")),
                inbox_id=_text(asked, "inbox") or None,
                overrides=overrides,
                conversation=user.get("conversation"),
            )
        except LedgerUnavailable:
            raise
        except (HITLError, ValueError) as error:
            logger.warning("A conversation of the bot's can't be handed over: %s", type(error).__name__)
            return Done(lambda tx: self._not_started(tx, event, overrides))
        return Done(lambda tx: self._started(tx, handoff, overrides, asked.get("assignmentTimeout")))

    def _started(self, tx: Transaction, handoff: Handoff, overrides: Mapping[str, str], seconds: object) -> None:
        user_id, now = handoff.conversation_id, self._ledger.now_ms()
        self._put_notice(tx, user_id, f"handoff:{handoff.id}", self._sessions.said(notices.HANDOFF, overrides))
        self._sessions.watch(tx, self._relay, handoff, seconds, now=now)
        self._pending(tx, user_id, starts=-1)

    def _not_started(self, tx: Transaction, event: Event, overrides: Mapping[str, str]) -> None:
        user_id, now = event.payload["key"], self._ledger.now_ms()
        self._put_notice(tx, user_id, f"failed:{event.id}", self._sessions.said(notices.TIMED_OUT, overrides))
        self._relay.put(tx, f"bot:{user_id}", "event_to_bot", {"event": failed_event("")}, now=now)
        self._pending(tx, user_id, starts=-1)

    def _put_notice(self, tx: Transaction, user_id: str, key: str, text: str) -> None:
        """Have a text of ours shown to the user, in the order of what the bot says."""
        if text:
            extra = {"author": "system", "message_id": key}
            facts = {"payload": {"type": "text", "text": text}, "extra": extra, "parked": False}
            self._relay.put(tx, user_id, "show", facts, now=self._ledger.now_ms(), dedupe=key)

    def _stop(self, event: Event) -> None:
        verbs.stop(self._runtime, event.payload["key"], reason="user", detail="the bot ended it")

    def _lost(self, tx: Transaction, event: Event, now: int) -> None:
        operation, user_id = event.payload["operation"], event.payload["key"]
        if operation == "start":
            self._not_started(tx, event, notices.known(event.payload["payload"].get("messages")))
        elif operation == "route":
            self._pending(tx, user_id, held=-1)

    def _history(self, user_id: str, conversation_id: str | None) -> list[HistoryEntry]:
        """The conversation with the bot, oldest first; empty when Botpress can't be asked now."""
        if conversation_id is None:
            return []
        try:
            found = self._messages_of(user_id, conversation_id, limit=HISTORY)[:HISTORY]
        except (BotpressUnavailable, BotpressRejected):
            logger.info("The conversation before a handoff could not be read")
            return []
        return history_of(found, lambda one: one.get("userId") == botpress_id(user_id))

    # From the agent --------------------------------------------------------------------------------------

    def tell_assigned(
        self, app: Flask, *, handoff: Handoff, operator: Operator, previous: Operator | None, **extra: Any
    ) -> None:
        """Receiver of ``operator_assigned``."""
        if not self._sessions.is_ours(handoff):
            return
        key = f"assigned:{handoff.id}:{handoff.assigned_at}:{operator.actor_id}"
        if previous is None:
            said = self._sessions.said(notices.ASSIGNED, handoff)
            self._tell_user(handoff.conversation_id, key, said, name=operator.name, avatar=operator.avatar)
        event = {"kind": "hitl.assigned", "v": 1, "session": handoff.id, "agent": {"name": operator.name or ""}}
        self._tell_bot(handoff.conversation_id, handoff.attributes.get("conversation"), f"{key}:bot", event)

    def show_message(self, app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
        """Receiver of ``operator_message``: each part is shown once."""
        if not self._sessions.is_ours(handoff):
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
        if not self._sessions.is_ours(handoff):
            return
        key = f"ended:{handoff.id}:{handoff.closed_at}"
        self._tell_user(handoff.conversation_id, key, self._sessions.farewell(handoff, reason, detail))
        self._end_for_bot(handoff, f"{key}:bot", ended_event(handoff, reason, detail, transcript))

    def tell_failed(self, app: Flask, *, handoff: Handoff, **extra: Any) -> None:
        """Receiver of ``handoff_failed``."""
        if self._sessions.is_ours(handoff):
            key = f"failed:{handoff.id}"
            self._tell_user(handoff.conversation_id, key, self._sessions.said(notices.TIMED_OUT, handoff))
            self._end_for_bot(handoff, f"{key}:bot", failed_event(handoff.id))

    def _end_for_bot(self, handoff: Handoff, key: str, event: Payload) -> None:
        """Tell the bot that the conversation is its own again, in the way that ``resume`` asks for."""
        user_id, conversation_id = handoff.conversation_id, handoff.attributes.get("conversation")
        if self._resume == "event":
            self._tell_bot(user_id, conversation_id, key, event)
        elif self._resume == "message" and conversation_id is not None:

            def say(part: Payload) -> None:
                self._say_as_user(user_id, conversation_id, part, metadata=event)

            self._delivery.send(key, [{"type": "text", "text": RESUMED}], say)

    def give_back(self, app: Flask, *, handoff: Handoff, message: Message, **extra: Any) -> None:
        """Receiver of ``message_failed``: what the agents did not get before the end is for the bot.

        What HubSpot refuses while the handoff is open is for a receiver of the host's to tell: the bot is silent then.
        """
        if not self._sessions.is_ours(handoff) or handoff.is_open:
            return
        with self._ledger.write() as tx:
            for number, payload in enumerate(to_botpress(message)):
                message_id = f"{handoff.id}:{message.message_id}:{number}"
                self._put_to_bot(tx, handoff.conversation_id, payload, message_id)
        self._relay.wake()

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


def _user(given: ChatUser | Mapping[str, Any] | str) -> ChatUser:
    if isinstance(given, ChatUser):
        return given
    if isinstance(given, str):
        return ChatUser(given)
    names = ("name", "picture_url", "profile", "contact")
    return ChatUser(str(given["id"]), **{name: given[name] for name in names if given.get(name) is not None})


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _dedupe(what: str, user_id: str, message_id: str | None) -> str | None:
    return None if message_id is None else f"{what}:{_digest(user_id, message_id)}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]
