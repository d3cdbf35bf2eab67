"""Put the chat bridge together on one app, from its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app

from ...errors import NotConfigured
from ...handoffs import verbs
from ...runtime import get_runtime
from .. import notices
from ..delivery import Delivery
from ..door import add_routes, header
from ..keys import Key
from ..messages import FILE_HOSTS
from ..options import Options
from ..relay import Relay
from ..service import Service
from ..session import Sessions
from .api import ChatApi, probe_of
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
    """Relay a channel of the host's own to Botpress's Chat API, or to HubSpot while a handoff is open.

    ``bridge = ChatBridge(hitl, on_message=show)``, and ``bridge.init_app(app)`` after ``hitl.init_app(app)``. An option
    that is None is read from ``HUBSPOT_HITL_BOTPRESS_<OPTION>``. Source of the wire facts: docs/botpress.rst (Chat API
    basics; Chat API calls; Chat API signals).
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
        language: str | None = None,
        waiting: str | None = None,
    ) -> None:
        """Make a bridge.

        :param hitl: the extension.
        :param chat_url: ``https://chat.botpress.cloud/<webhook id>``.
        :param encryption_key: the encryption key in the Chat integration's configuration.
        :param webhook_secret: the webhook secret in the Chat integration's configuration, whose webhook URL is
            ``<PUBLIC_URL><prefix>/botpress/chat``.
        :param on_message: shows a message to the user: ``on_message(user, payload, **extra)`` with a :class:`ChatUser`,
            a Botpress payload with its ``type``, and ``author`` (``bot``, ``operator``, ``system``), ``message_id``,
            ``name``, ``avatar``, ``metadata``. It is called at least once for each message, in order, and again later
            when it raises.
        :param resume: how the bot learns of the end: ``event``, the custom event ``hitl.ended`` (default); ``message``,
            a message in the user's name with the event in its metadata; ``none``.
        :param bot_messages: what becomes of the bot's messages while a human has the conversation: ``drop`` (default),
            or ``park``, which shows them after the end.
        :param messages: texts for the user by name, in place of those of :data:`.texts.TEXTS`; ``"NULL"``: none.
        :param language: of the other texts: ``en`` (default), ``de``, ``fr``, ``es``, ``pt`` or ``it``.
        :param waiting: whether the user is told of their place in the queue, at first and whenever it changes:
            ``none`` (default) or ``notice``.
        """
        self._hitl = hitl
        self._chat_url, self._encryption_key, self._webhook_secret = chat_url, encryption_key, webhook_secret
        self._on_message, self._resume, self._bot_messages = on_message, resume, bot_messages
        self._messages, self._language, self._waiting = notices.known(messages), language, waiting

    def init_app(self, app: Flask) -> None:
        """Add the route and connect the signals; nothing where the app runs without live agents.

        :param app: the app, on which the extension is.
        :raises ConfigError: one or more options are wrong; the error lists all of them.
        :raises RuntimeError: the extension is not on the app, or the bridge is already.
        """
        try:
            runtime = get_runtime(app)
        except NotConfigured:
            return  # this app runs without live agents
        options = Options(app)
        url = options.url("chat_url", self._chat_url, example="https://chat.botpress.cloud/<webhook id>")
        key = options.secret("encryption_key", self._encryption_key, example="the Chat integration's encryption key")
        secret = options.secret("webhook_secret", self._webhook_secret, example="the Chat integration's webhook secret")
        on_message = options.callback("on_message", self._on_message)
        resume = options.choice("resume", self._resume, "event", "message", "none")
        parks = options.choice("bot_messages", self._bot_messages, "drop", "park") == "park"
        messages = {notices.LANGUAGE: options.choice("language", self._language, *notices.LANGUAGES), **self._messages}
        tells_place = options.choice("waiting", self._waiting, "none", "notice") == "notice"
        options.check()
        runtime.services.remote_files.allow(*FILE_HOSTS)
        shared = Shared(
            app=app,
            runtime=runtime,
            relay=Relay(app, NAME),
            api=ChatApi(Service.of(runtime, url, key=Key(runtime, NAME, probe_of(key))), key),
            users=Users(runtime.ledger),
            sessions=Sessions(app, NAME, messages, tells_place=tells_place),
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
        """Take a message of the user's for the agents while a handoff is open, else for the bot; it is on disk then.

        Between the bot's call for a human and the opening of the handoff it is held, and the answer is True; should the
        handoff fail, the bot gets it.

        :param user: a :class:`ChatUser`, its fields as a mapping, or just the id.
        :param payload: a Botpress payload with its ``type``, or text.
        :param message_id: the host's own name of the message; the same twice is one message.
        :returns: True when a human has it, False when it goes to the bot.
        :raises LedgerUnavailable: the message could not be stored; nothing was accepted.
        :raises NotConfigured: the app runs without live agents.
        :raises ValueError: the user has no id, or one of more than 500 characters.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        get_runtime()
        from_user: FromUser = current_app.extensions[KEY][0]
        given = {"type": "text", "text": payload} if isinstance(payload, str) else dict(payload)
        return from_user.user_message(user_of(user), given, message_id)

    def mark_read(self, user: ChatUser | Mapping[str, Any] | str, message_id: str | None = None) -> int:
        """Show the agent that the user has read what was shown; call it when the user has really seen it.

        :param user: as in :meth:`user_message`.
        :param message_id: the last message that the user has read, as ``on_message`` was given it; those before it
            count as read, too. None: all that were shown.
        :returns: how many messages of agents' were not read before.
        :raises LedgerUnavailable: it could not be stored; nothing was changed.
        :raises ValueError: an id is empty or too long.
        :raises TypeError: an id is of the wrong type.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        whole = message_id and message_id.partition(":")[0]  # the id of a file is its message's and a number
        return verbs.mark_read(get_runtime(), user_of(user).id, whole)
