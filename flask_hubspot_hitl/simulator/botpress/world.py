"""What exists in the stand-in for Botpress: users, conversations, messages, events, and the settings of one bot."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Queue
from typing import Any, cast

from flask import current_app, request
from werkzeug.local import LocalProxy

from ...hubspot import strict_json
from ..engine.chaos import Chaos

JSON = dict[str, Any]


def now_ms() -> int:
    """Epoch ms."""
    return time.time_ns() // 1_000_000


def iso(ms: int) -> str:
    """Epoch ms as Botpress writes a time."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """The time as Botpress writes it."""
    return iso(now_ms())


@dataclass
class Switches:
    """What the Chat integration's signals suffer, and how the bot behaves. ``POST /_sim/chaos`` changes them."""

    drop_signals: int = 0
    """So many of the next signals are lost."""
    duplicate_signals: bool = False
    reorder_signals: bool = False
    """The signals of one turn go out last first."""
    signal_delay: float = 0
    """Seconds."""
    ping_seconds: float = 30
    """How often a listener hears that the line is open."""
    personal_keys: bool = True
    """The integration has an encryption key: the host signs its users' keys."""
    error_in_200: bool = False
    """The next Chat API error is answered with status 200 and the error object as its body."""
    chatty: bool = False
    """The bot goes on talking while a human has the conversation."""
    runtime_429: int = 0
    """So many of the next calls of the Runtime API are one too many; the headers tell to wait a second."""
    activation_seconds: float = 0
    """How long the HITL agent drops what the service says after a conversation was made."""
    cancel_first: bool = True
    """The cancelled text comes before the ticket is closed, not after."""


@dataclass
class Session:
    """A conversation that the HITL agent has handed to the service."""

    conversation_id: str
    remote_id: str
    user_id: str
    remote_user_id: str
    active_at: float
    state: str = "active"
    received: list[JSON] = field(default_factory=list)


@dataclass(eq=False)
class Listener:
    """Somebody who listens to a conversation; None among what was heard ends it."""

    conversation_id: str
    user_id: str
    heard: Queue[JSON | None] = field(default_factory=Queue)


class BotpressWorld:
    """Everything there is, and the settings. Guarded by ``lock``."""

    webhook_id = "sim-wh-0123456789abcdef"
    events_webhook_id = "sim-wh-events-0123456789"
    bot_id = "sim-bot-6e1c2a34-0000-4000-8000-000000000001"
    token = "sim-bp-bak-0123456789abcdef"
    encryption_key = "sim-encryption-key-0123456789"
    webhook_secret = "sim-webhook-secret-0123456789"
    call_secret = "sim-call-secret-0123456789abc"
    bp_secret = "sim-bp-secret-0123456789abcde"
    hitl_secret = "sim-hitl-api-0123456789abcdef"

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.base_url = ""
        self.control_token: str | None = None
        self.allowed_hosts: frozenset[str] = frozenset()
        self.chaos = Chaos()
        self.reset()

    def reset(self) -> None:
        """Back to an empty bot."""
        with self.lock:
            self.chaos = Chaos()
            self.switches = Switches()
            self.target = ""
            self.asks: JSON = {"title": "Refund", "email": "+34911222333", "name": "Rosa Vidal"}
            self.requests: list[JSON] = []
            self.deliveries: list[JSON] = []
            self.users: dict[str, JSON] = {}
            self.conversations: dict[str, JSON] = {}
            self.owners: dict[str, list[str]] = {}
            self.listeners: list[Listener] = []
            self.messages: list[JSON] = []
            self.events: dict[str, JSON] = {}
            self.with_human: set[str] = set()
            self.webhook_events: list[JSON] = []
            self.sessions: dict[str, Session] = {}
            self._counts: Counter[str] = Counter()
            self._latest_ms = 0
            self.generation = getattr(self, "generation", 0) + 1

    def log_call(self, entry: JSON) -> None:
        """Keep an API call that was served; the middleware's, which both stand-ins share."""
        self.requests.append(entry)

    def new_id(self, kind: str) -> str:
        """``conv_`` and 26 characters, and so on; in order."""
        self._counts[kind] += 1
        return f"{kind}_{self._counts[kind]:026d}"

    def moment(self) -> str:
        """The time now, a millisecond later than the moment before at least: clients sort by it."""
        self._latest_ms = max(now_ms(), self._latest_ms + 1)
        return iso(self._latest_ms)

    def new_event(self, conversation_id: str, user_id: str, payload: JSON) -> JSON:
        """A custom event in a conversation, made now."""
        event: JSON = {"id": self.new_id("evt"), "createdAt": self.moment(), "userId": user_id}
        event |= {"conversationId": conversation_id, "payload": payload}
        self.events[event["id"]] = event
        return event

    def new_message(
        self,
        conversation_id: str,
        user_id: str,
        kind: str,
        payload: JSON,
        *,
        message_id: str | None = None,
        **more: Any,
    ) -> JSON:
        """A message in a conversation, made now: as the Runtime API has it, and ``metadata``."""
        at = self.moment()
        message: JSON = {"id": message_id or self.new_id("msg"), "createdAt": at, "updatedAt": at, "type": kind}
        message |= {"payload": payload, "userId": user_id, "conversationId": conversation_id, "tags": {}}
        message["direction"] = "outgoing" if user_id == self.bot_id else "incoming"
        message |= more
        self.messages.append(message)
        return message

    def new_conversation(self, conversation_id: str, *owners: str) -> JSON:
        """A conversation, made now, the owner first."""
        at = self.moment()
        self.conversations[conversation_id] = {"id": conversation_id, "createdAt": at, "updatedAt": at}
        self.owners[conversation_id] = list(owners)
        return self.conversations[conversation_id]

    def env(self) -> dict[str, str]:
        """The settings with which a host's bridges talk to this bot."""
        options = {
            "CHAT_URL": f"{self.base_url}/chat/{self.webhook_id}",
            "ENCRYPTION_KEY": self.encryption_key,
            "WEBHOOK_SECRET": self.webhook_secret,
            "BOT_ID": self.bot_id,
            "TOKEN": self.token,
            "API_URL": self.base_url,
            "CALL_SECRET": self.call_secret,
            "SECRET": self.hitl_secret,
            "WEBHOOK_URL": f"{self.base_url}/webhook/{self.webhook_id}",
        }
        return {f"HUBSPOT_HITL_BOTPRESS_{name}": value for name, value in options.items()}


def current() -> BotpressWorld:
    """The one of the app that serves this request, for what goes on after the request."""
    return cast("BotpressWorld", current_app.extensions["simulation"])


world = cast("BotpressWorld", LocalProxy(current))
"""The same, during the request."""


def existing(among: Mapping[str, JSON], key: object, what: str) -> JSON:
    """One of these objects, or Botpress's 404."""
    if not isinstance(key, str) or key not in among:
        raise BotpressError(404, "ResourceNotFound", f"{what} does not exist")
    return among[key]


class BotpressError(Exception):
    """An answer that says no, with Botpress's error body."""

    def __init__(self, status: int, kind: str, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body: JSON = {"id": "err_20260101000000x00000000", "code": status, "type": kind, "message": message}

    @classmethod
    def of_shape(cls, message: str) -> BotpressError:
        """A request that does not fit its schema: answered with the text alone."""
        problem = cls(400, "InvalidPayload", message)
        problem.body = {"message": message}
        return problem


def _invalid(text: str) -> Exception:
    return BotpressError(400, "InvalidPayload", text)


def body_of(refusal: Callable[[str], Exception] = _invalid) -> JSON:
    """The request's JSON object; else the ``refusal`` is raised, made of what is wrong."""
    try:
        value = strict_json.loads(request.get_data() or b"{}")
    except ValueError:
        raise refusal("Invalid JSON body") from None
    if not isinstance(value, dict):
        raise refusal("body must be object")
    return value


TEXT_LIMITS = {"profile": 1000}
"""How many characters a field may have (docs/botpress.rst: Chat API)."""
TAG_LIMIT = 500


def check_texts(body: JSON, *names: str, nullable: bool = False) -> None:
    """Fields of a body that must be text where they are given. Raises BotpressError (400)."""
    for name in names:
        value = body.get(name)
        if name not in body or (nullable and value is None):
            continue
        if not isinstance(value, str):
            raise BotpressError.of_shape(f"body/{name} must be string")
        if len(value) > TEXT_LIMITS.get(name, len(value)):
            raise BotpressError.of_shape(f"body/{name} must NOT have more than {TEXT_LIMITS[name]} characters")


def check_tags(body: JSON) -> dict[str, str]:
    """The tags of a body: texts by name. Raises BotpressError (400)."""
    tags = body.get("tags", {})
    if not isinstance(tags, dict):
        raise BotpressError.of_shape("body/tags must be object")
    for name, value in tags.items():
        if not isinstance(value, str) or len(value) > TAG_LIMIT:
            raise BotpressError.of_shape(f"body/tags/{name[:60]} must be string, of {TAG_LIMIT} characters at most")
    return tags
