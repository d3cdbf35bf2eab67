"""HubSpotHITL: what a host sees. Everything behind it is loaded with the first app, not with the package."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .clock import Clock

if TYPE_CHECKING:
    from flask import Flask

    from .domain import Attachment, Contact, Handoff, HistoryEntry, Message
    from .runtime import Runtime


class HubSpotHITL:
    """Hands an app's conversations to live agents in HubSpot, and takes them back.

    ``HubSpotHITL(app)``, or ``HubSpotHITL()`` and ``init_app(app)`` for each app. The object itself holds nothing of
    any app.

    :param may_install: decides who may connect a HubSpot account at ``/hubspot/oauth/install``. It is called in that
        request, with the portal's id if it is known and else None, and answers True or False; it may also ``abort()``,
        and be a coroutine function.
        By default only who runs the app in debug mode may, and who has a link from ``flask hubspot-hitl install-url``.
    :param serving_commands: names of the host's own commands that serve requests, such as ``{"serve"}`` for
        ``@app.cli.command("serve")``. With ``DISPATCHER = thread`` they dispatch as ``flask run`` does, and other
        commands of Flask's do not. Servers with a command of their own need not be named.
    :param clock: tells the time, for tests.
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

        :raises ConfigError: listing everything that is wrong with the settings.
        :raises LedgerUnavailable: when the database can't be opened.
        """
        from .cli import group
        from .clock import SystemClock
        from .config import Settings
        from .dispatch import servers
        from .runtime import KEY, open_runtime
        from .web.blueprint import create_blueprint, exempt_from_csrf

        if KEY in app.extensions:
            raise RuntimeError("HubSpotHITL is already on this app; call init_app once.")
        settings = Settings.from_config(app.config)
        runtime = open_runtime(app, settings, self._clock or SystemClock())
        runtime.may_install = self._may_install
        app.extensions[KEY] = runtime
        app.register_blueprint(create_blueprint(settings), url_prefix=settings.url_prefix)
        app.cli.add_command(group)
        exempt_from_csrf(app)
        dispatcher = runtime.dispatcher

        @app.before_request
        def serve() -> None:
            exempt_from_csrf(app)
            dispatcher.serve(start=not app.testing)

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
        history: Iterable[HistoryEntry | tuple[str, str] | Mapping[str, Any]] = (),
        inbox_id: str | None = None,
        portal_id: str | None = None,
        assign_to: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Handoff:
        """Hand the conversation to the humans; with one open already, that one is returned.

        HubSpot is tried for at most ``START_TIMEOUT`` seconds. The handoff comes back with its thread, or in state
        ``starting`` while the ledger keeps trying; ``handoff_started`` or ``handoff_failed`` follows.

        :param contact: a phone number with country code, an e-mail address, or a :class:`Contact`.
        :param history: the turns before the handoff, oldest first.
        :param inbox_id: the inbox or help desk; by default the first of ``INBOX_ID``, or the portal's own default.
        :param portal_id: the HubSpot account; by default ``PORTAL_ID``, or the only one that is installed.
        :param assign_to: an agent's actor id, ``A-987``, or user id.
        :param attributes: of the host's own; JSON; comes back in ``handoff.attributes``.
        :raises ContactInvalid: the contact is neither.
        :raises ContactNotFound: HubSpot answered that it does not know it; nothing is left behind.
        :raises InboxNotConnected: our channel has no account in that inbox; nothing is left behind.
        :raises HubSpotRejected: HubSpot said no for good; nothing is left behind.
        :raises NotConfigured: a setting is missing, which the text names.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
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

        Never waits for HubSpot. True: it is on disk, the humans have it. False: there is no open handoff, the bot
        answers. The same ``message_id`` twice is one message; the first content wins.

        :param text: plain text; None is no text.
        :param attachments: files; see :class:`Attachment`.
        :raises ValueError: there is neither text nor file, or a file is too large or has no content.
        :raises TypeError: the text is no text, an attachment is no :class:`Attachment` or has a field of the wrong
            type, or a file object is not opened in binary mode.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        """
        from .handoffs import verbs

        return verbs.send(_runtime(), conversation_id, text, attachments=attachments, message_id=message_id)

    def stop(self, conversation_id: str, *, reason: str = "user", detail: str | None = None) -> None:
        """End the open handoff, if there is one: ``conversation_completed`` fires once, HubSpot's thread closes.

        :param reason: ``user``, ``timeout``, or another of :class:`CloseReason`.
        :raises LedgerUnavailable: it could not be stored; nothing was changed.
        """
        from .handoffs import verbs

        verbs.stop(_runtime(), conversation_id, reason=reason, detail=detail)

    def get(self, conversation_id: str) -> Handoff | None:
        """The conversation's open handoff, or None."""
        from .handoffs import verbs

        return verbs.get(_runtime(), conversation_id)

    def is_active(self, conversation_id: str) -> bool:
        """True while the bot should be silent: a handoff is open, or starting."""
        return self.get(conversation_id) is not None

    def transcript(self, conversation_id: str) -> list[Message]:
        """The messages of the conversation's newest handoff, oldest first."""
        from .handoffs import verbs

        return verbs.transcript(_runtime(), conversation_id)


def _runtime() -> Runtime:
    from .runtime import get_runtime

    return get_runtime()
