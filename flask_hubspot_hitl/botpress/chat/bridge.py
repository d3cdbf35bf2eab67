"""``ChatBridge``: its options, and how its parts are put together on one app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app

from ...runtime import get_runtime
from .. import notices
from ..delivery import Delivery
from ..door import add_routes, header
from ..messages import FILE_HOSTS
from ..options import Options
from ..relay import Relay
from ..service import Service
from ..session import Sessions
from .api import ChatApi
from .from_bot import FromBot, OnMessage
from .from_user import FromUser
from .handoff import Handoffs
from .shared import Shared
from .users import NAME, ChatUser, Users, user_of

if TYPE_CHECKING:
    from ...extension import HubSpotHITL

KEY = __name__
"""Where an app keeps its bridge."""


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
        runtime = get_runtime(app)
        runtime.services.remote_files.allow(*FILE_HOSTS)
        shared = Shared(
            app=app,
            runtime=runtime,
            relay=Relay(app, NAME),
            api=ChatApi(Service.of(runtime, url), key),
            users=Users(runtime.ledger),
            sessions=Sessions(app, NAME, self._messages),
            delivery=Delivery(runtime.ledger, NAME),
        )
        from_bot = FromBot(shared, on_message, parks=parks)
        from_user = FromUser(shared, from_bot)
        handoffs = Handoffs(shared, from_bot, from_user, resume=resume)
        add_routes(app, NAME, "/chat", {"/": from_bot.signal}, check=header("x-secret-key", secret))
        app.extensions[KEY] = from_user, handoffs  # signals hold their receivers weakly

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
        :raises ValueError: the user has no id.
        """
        from_user: FromUser = current_app.extensions[KEY][0]
        given = {"type": "text", "text": payload} if isinstance(payload, str) else dict(payload)
        return from_user.user_message(user_of(user), given, message_id)
