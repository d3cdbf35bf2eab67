"""Provide HubSpotHITL, all that a host needs; what is behind it is loaded with the first app, not with the package."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any

from .clock import Clock

if TYPE_CHECKING:
    from flask import Flask

    from .domain import Attachment, Contact, Handoff, Message
    from .runtime import Runtime


class HubSpotHITL:
    """Hand an app's conversations to live agents in HubSpot, and take them back.

    ``HubSpotHITL(app)``, or ``HubSpotHITL()`` and ``init_app(app)`` for each app. The object itself holds nothing of
    any app; the verbs work on the current one.

    :param app: an app to begin with; None: call :meth:`init_app`.
    :param may_install: decides who may connect a HubSpot account at ``/hubspot/oauth/install``. It is called in that
        request, with the portal's id if it is known and else None, and answers True or False; it may also ``abort()``,
        and be a coroutine function. By default an account can be connected in debug mode, and with a link from ``flask
        hubspot-hitl install-url``.
    :param serving_commands: names of the host's own commands that serve requests, such as ``{"serve"}`` for
        ``@app.cli.command("serve")``. With ``DISPATCHER = thread`` they dispatch as ``flask run`` does, and other
        commands of Flask's do not. Servers with a command of their own need not be named.
    :param clock: tells the time, for tests: an object with ``now_ms()`` (epoch milliseconds) and ``sleep(seconds)``.
    :raises TypeError: ``serving_commands`` is a str.
    :raises ConfigError: see :meth:`init_app`, as for all that follow.
    :raises LedgerUnavailable: the database can't be opened.
    :raises RuntimeError: the extension is on the app already.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        may_install: Callable[[str | None], bool | Awaitable[bool]] | None = None,
        serving_commands: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._may_install = may_install
        if isinstance(serving_commands, str):
            raise TypeError(f"serving_commands is a list of names: write [{serving_commands!r}]")
        self._serving_commands = frozenset(serving_commands)
        self._clock = clock
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the app's settings, open its database, add the routes, and get the dispatcher ready.

        :param app: the Flask app; its config holds the settings (``HUBSPOT_HITL_*``).
        :raises ConfigError: one or more settings are wrong; the error lists all of them.
        :raises LedgerUnavailable: the database can't be opened.
        :raises RuntimeError: the extension is on the app already.
        """
        from .cli import group, settings_not_yet
        from .clock import SystemClock
        from .config import Settings
        from .dispatch import servers
        from .handoffs.emission import warn_of_unheard
        from .runtime import KEY, open_runtime
        from .web.blueprint import create_blueprint, exempt_from_csrf

        if KEY in app.extensions:
            raise RuntimeError("HubSpotHITL is already on this app; call init_app once.")
        settings = Settings.from_config(app.config, not_yet=settings_not_yet())
        runtime = open_runtime(app, settings, self._clock or SystemClock())
        runtime.may_install = self._may_install
        app.extensions[KEY] = runtime
        app.register_blueprint(create_blueprint(settings), url_prefix=settings.url_prefix)
        app.cli.add_command(group)
        exempt_from_csrf(app)
        dispatcher = runtime.dispatcher
        is_new = not app.testing

        @app.before_request
        def serve() -> None:
            nonlocal is_new
            exempt_from_csrf(app)
            dispatcher.serve(start=not app.testing)
            if is_new:
                is_new = False
                warn_of_unheard(app)

        @app.teardown_appcontext
        def rest(_error: BaseException | None) -> None:
            runtime.ledger.rest()

        if settings.dispatcher == "thread":
            servers.prepare(dispatcher, self._serving_commands)

    def close(self, app: Flask | None = None) -> None:
        """End everything that the extension has on an app: threads, connections and files. May be called again.

        For tests, and for processes that make many apps; an app that is dropped without it ends when it is collected.
        What is being worked on is finished first, for at most 25 seconds; what is not done stays in the database.
        A receiver that calls it is not waited for, and its event comes again when the app is served next.
        Afterwards the verbs raise :exc:`LedgerUnavailable`, and HubSpot's webhooks are answered with 503.

        :param app: by default the current one.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .runtime import get_runtime

        get_runtime(app).close()

    # The verbs -------------------------------------------------------------------------------------------

    def start(
        self,
        conversation_id: str,
        *,
        contact: str | Contact | None = None,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        history: Iterable[Any] = (),
        inbox_id: str | None = None,
        portal_id: str | None = None,
        assign_to: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Handoff:
        """Hand the conversation to the humans, or return its handoff that is open already.

        HubSpot is tried for at most ``START_TIMEOUT`` seconds. The handoff comes back with its thread, or in state
        ``starting`` while the dispatcher keeps trying; ``handoff_started`` or ``handoff_failed`` follows.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param contact: a phone number with country code, an e-mail address, or a :class:`Contact`, which also takes
            the bare digits that a messenger delivers. None only with ``CONTACT_POLICY = anonymous``.
        :param name: the user's name, as the agent sees it.
        :param title: the reason in a few words, for the agent.
        :param description: the reason at more length, for the agent.
        :param history: the turns before the handoff, oldest first: each a :class:`HistoryEntry`, a pair
            ``(author, text)``, a mapping with ``author`` and ``text`` or with ``role`` and ``content``, or a message of
            LangChain's, Rasa's or Botpress's. System messages and tool calls are left out.
        :param inbox_id: the inbox or help desk; by default the first of ``INBOX_ID``, or the portal's own default.
        :param portal_id: the HubSpot account; by default ``PORTAL_ID``, or the only one that is installed.
        :param assign_to: an agent's actor id, ``A-987``, or user id; when HubSpot refuses it, the handoff goes on.
        :param attributes: the host's own facts, as JSON can hold them; they come back in ``handoff.attributes``.
        :returns: the open handoff.
        :raises ContactInvalid: the contact is neither a phone number with country code nor an e-mail address; the text
            says what would be right.
        :raises ContactNotFound: HubSpot answered that it does not know the contact; nothing is left behind.
        :raises InboxNotConnected: our channel has no account in that inbox; nothing is left behind.
        :raises HubSpotRejected: HubSpot refuses the conversation for good; nothing is left behind.
        :raises NotConfigured: a setting is missing, which the text names.
        :raises LedgerUnavailable: the handoff could not be stored; nothing was accepted.
        :raises ValueError: there is no contact, or an id is empty, too long, or no id of an agent.
        :raises TypeError: an id is of the wrong type, or a turn of the history is not understood; nothing is stored.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        runtime = _runtime()
        opening = verbs.check_opening(
            runtime,
            conversation_id,
            contact=contact,
            name=name,
            title=title,
            description=description,
            history=history,
            inbox_id=inbox_id,
            portal_id=portal_id,
            assign_to=assign_to,
            attributes=attributes,
        )
        return verbs.start(runtime, opening)

    def send(
        self,
        conversation_id: str,
        text: str | None = "",
        *,
        attachments: Iterable[Attachment] = (),
        message_id: str | None = None,
    ) -> bool:
        """Give a message of the user's to the humans, if they have the conversation.

        Never waits for HubSpot. The same ``message_id`` twice is one message; the first content wins.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param text: plain text; None is no text.
        :param attachments: files; see :class:`Attachment`. Each has at most ``MAX_ATTACHMENT_BYTES`` bytes.
        :param message_id: the host's own name of the message, 1 to 500 characters: the idempotency key.
        :returns: True: the message is on disk, the humans have it. False: no handoff is open, the bot answers.
        :raises ValueError: there is neither text nor file, a file is too large or has no content, or an id is empty or
            too long.
        :raises TypeError: the text or an id is of the wrong type, an attachment is no :class:`Attachment` or has a
            field of the wrong type, or a file object is not opened in binary mode.
        :raises LedgerUnavailable: the message could not be stored; nothing was accepted.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.send(_runtime(), conversation_id, text, attachments=attachments, message_id=message_id)

    def stop(self, conversation_id: str, *, reason: str = "user", detail: str | None = None) -> None:
        """End the open handoff, if there is one: ``conversation_completed`` is sent once, HubSpot's thread is closed.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param reason: ``user``, ``timeout``, or another value of :class:`CloseReason`.
        :param detail: the host's own words for the reason; they come back in the signal and in ``handoff.detail``.
        :raises LedgerUnavailable: the end could not be stored; nothing was changed.
        :raises ValueError: there is no such reason, or the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        verbs.stop(_runtime(), conversation_id, reason=reason, detail=detail)

    def get(self, conversation_id: str) -> Handoff | None:
        """Return the conversation's open handoff, or None.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.get(_runtime(), conversation_id)

    def is_active(self, conversation_id: str) -> bool:
        """Return True while the bot should be silent: a handoff is open, or starting.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        return self.get(conversation_id) is not None

    def transcript(self, conversation_id: str) -> list[Message]:
        """Return the messages of the conversation's newest handoff, oldest first.

        The links of its files last as long as the conversation is kept: they lead to ``PUBLIC_URL``, where each visit
        asks HubSpot for the file's address of the hour. Whoever has such a link can read the file.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :returns: messages of both sides; an empty list when there was no handoff.
        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.transcript(_runtime(), conversation_id)

    def attachment_url(self, conversation_id: str, attachment: Attachment) -> str:
        """Return a link that anybody can read a file of the conversation with, for ten minutes at least.

        HubSpot is asked, unless it was within the last fifty minutes. An attachment that HubSpot does not keep has its
        own ``url``, which is returned. Source: docs/hubspot.rst (Reading files).

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param attachment: one that a receiver or ``transcript()`` gave.
        :returns: an https address; whoever has it can read the file.
        :raises HubSpotNotFound: the file was deleted, or the conversation had no handoff.
        :raises HubSpotRejected: HubSpot does not give the file.
        :raises HubSpotUnavailable: HubSpot can't be asked just now.
        :raises NotConfigured: there is no token for the portal any more.
        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the attachment has neither ``file_id`` nor ``url``, or the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.attachment_url(_runtime(), conversation_id, attachment)

    def open_attachment(self, conversation_id: str, attachment: Attachment) -> IO[bytes]:
        """Fetch a file of the conversation and open it for reading, in binary mode.

        It is fetched whole, at most ``MAX_ATTACHMENT_BYTES`` bytes in at most 20 seconds. A page that comes in the
        file's place, such as HubSpot's log-in, is refused.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param attachment: one that a receiver or ``transcript()`` gave.
        :returns: the file's bytes, as a file object.
        :raises HubSpotNotFound: the file was deleted, or the conversation had no handoff.
        :raises HubSpotRejected: the file is not given, is too large, or something else came in its place.
        :raises HubSpotUnavailable: it can't be fetched just now.
        :raises NotConfigured: there is no token for the portal any more.
        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the attachment has neither ``file_id`` nor ``url``, or the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.open_attachment(_runtime(), conversation_id, attachment)


def _runtime() -> Runtime:
    from .runtime import get_runtime

    return get_runtime()
