"""Provide HubSpotHITL, all that a host needs; what is behind it is loaded with the first app, not with the package."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar

from .clock import Clock

if TYPE_CHECKING:
    from flask import Flask

    from .domain import Attachment, Availability, Contact, Handoff, Message, Waiting
    from .handoffs.bot_turns import BotTurn
    from .metrics import Metrics
    from .runtime import Runtime

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def _when_off(nothing: Callable[[], Any]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have a verb that asks answer ``nothing()`` while somebody has switched live agents off."""

    def decorate(verb: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(verb)
        def ask(*given: P.args, **named: P.kwargs) -> T:
            from .runtime import off_of

            off = off_of()
            if off is not None and off.is_wanted:
                found: T = nothing()
                return found
            return verb(*given, **named)

        return ask

    return decorate


class HubSpotHITL:
    """Hand an app's conversations to live agents in HubSpot, and take them back.

    ``HubSpotHITL(app)``, or ``HubSpotHITL()`` and ``init_app(app)`` for each app. The object itself holds nothing of
    any app; the verbs work on the current one.

    Without any setting the app runs all the same, and every verb raises :exc:`NotConfigured`. With ``ENABLED = 0`` the
    verbs that ask answer that there is no handoff, and ``start`` alone raises it.

    :param app: an app to begin with; None: call :meth:`init_app`.
    :param may_install: decides who may connect a HubSpot account at ``/hubspot/oauth/install``. It is called in that
        request, with the portal's id if it is known and else None, and answers True or False; it may also ``abort()``,
        and be a coroutine function. By default an account can be connected in debug mode, and with a link from ``flask
        hubspot-hitl install-url``.
    :param may_administer: decides who sees the admin's pages at ``/hubspot/admin``; there are none without it. It is
        called in each of their requests, and answers with a name for the audit, or True; for whom it answers with
        anything false there is no such page. It may ``abort()``, too, and be a coroutine function.
    :param serving_commands: names of the host's own commands that serve requests, such as ``{"serve"}`` for
        ``@app.cli.command("serve")``. With ``DISPATCHER = thread`` they dispatch as ``flask run`` does, and other
        commands of Flask's do not. Servers with a command of their own need not be named.
    :param metrics: takes what is measured, such as ``adapters.prometheus.Prometheus()``.
    :param redact: called with the value of each of a handoff's facts, and with each entry of its history; returns what
        agents may read of it. What it raises, ``start`` raises before anything is stored.
    :param clock: tells the time, for tests: an object with ``now_ms()`` (epoch milliseconds) and ``sleep(seconds)``.
    :raises TypeError: ``serving_commands`` is a str.
    :raises ConfigError: see :meth:`init_app`, as for all that follow.
    :raises RuntimeError: the extension is on the app already.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        may_install: Callable[[str | None], bool | Awaitable[bool]] | None = None,
        may_administer: Callable[[], bool | str | Awaitable[bool | str | None] | None] | None = None,
        serving_commands: Collection[str] = (),
        metrics: Metrics | None = None,
        redact: Callable[[str], str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._may_install = may_install
        self._may_administer = may_administer
        self._metrics = metrics
        if isinstance(serving_commands, str):
            raise TypeError(f"serving_commands is a list of names: write [{serving_commands!r}]")
        self._serving_commands = frozenset(serving_commands)
        self._redact = redact
        self._clock = clock
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the app's settings, open its database, add the routes, and get the dispatcher ready.

        While the database is away only what needs it fails. See :class:`HubSpotHITL` for an app without settings.

        :param app: the Flask app; its config holds the settings (``HUBSPOT_HITL_*``).
        :raises ConfigError: one or more settings are wrong; the error lists all of them.
        :raises RuntimeError: the extension is on the app already.
        """
        from .cli import group, settings_not_yet
        from .clock import SystemClock
        from .config import Settings, why_off
        from .dispatch import servers
        from .handoffs.hearing import warn_of_unheard
        from .metrics.logs import to_json
        from .runtime import KEY, open_runtime
        from .web.blueprint import create_blueprint, exempt_from_csrf

        if KEY in app.extensions:
            raise RuntimeError("HubSpotHITL is already on this app; call init_app once.")
        app.cli.add_command(group)
        off = why_off(app.config)
        if off is not None:
            logger.warning("This app runs without live agents, webhooks are answered with 503: %s", off.why)
            app.extensions[KEY] = off
            app.register_blueprint(create_blueprint(is_off=True), url_prefix=off.url_prefix)
            exempt_from_csrf(app)
            app.before_request(lambda: exempt_from_csrf(app))
            return
        settings = Settings.from_config(app.config, not_yet=settings_not_yet())
        if settings.log_json:
            to_json()
        runtime = open_runtime(app, settings, self._clock or SystemClock())
        runtime.may_install, runtime.may_administer = self._may_install, self._may_administer
        runtime.redact = self._redact
        if self._metrics is not None:
            runtime.measure(self._metrics)
        app.extensions[KEY] = runtime
        app.register_blueprint(
            create_blueprint(has_admin=self._may_administer is not None), url_prefix=settings.url_prefix
        )
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
        from .errors import NotConfigured
        from .runtime import get_runtime

        try:
            runtime = get_runtime(app)
        except NotConfigured:
            return
        runtime.close()

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
        idle_warning: float | None = None,
        idle_timeout: float | None = None,
        facts: Mapping[str, Any] | None = None,
        link: str | None = None,
        ticket: Mapping[str, Any] | None = None,
        require_available: bool = False,
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
        :param portal_id: the HubSpot account; by default ``PORTAL_ID``, or the only one that has the app.
        :param assign_to: an agent's actor id, ``A-987``, or user id; when HubSpot refuses it, the handoff goes on.
        :param attributes: the host's own facts, as JSON can hold them; they come back in ``handoff.attributes``.
        :param idle_warning: seconds after which ``idle_warning`` is sent when an agent has written and the user not; by
            default ``IDLE_WARNING``; 0: never.
        :param idle_timeout: seconds after which the handoff ends then; by default ``IDLE_TIMEOUT``; 0: never.
        :param facts: what the agent should know of the user, ``{"Plan": "Pro"}``: text, numbers, True and False. They
            stand in the first message, 500 characters of each and 4,000 of all.
        :param link: an https address for the agent, such as the user's page in your own administration.
        :param ticket: properties for the conversation's ticket in a help desk, ``{"hs_ticket_priority": "HIGH"}``; with
            ``TICKETS`` only. They are set when HubSpot has made the ticket; ``ticket_refused`` tells that it did not
            work.
        :param require_available: begin no handoff when nobody is there for it; HubSpot is asked that very moment, for
            at most 2.5 seconds. What can't be found out is no reason to refuse.
        :returns: the open handoff.
        :raises NobodyAvailable: ``require_available`` is True and nobody is there; nothing is left behind.
        :raises ContactInvalid: the contact is neither a phone number with country code nor an e-mail address; the text
            says what would be right.
        :raises ContactNotFound: HubSpot answered that it does not know the contact; nothing is left behind.
        :raises InboxNotConnected: our channel has no account in that inbox; nothing is left behind.
        :raises HubSpotRejected: HubSpot refuses the conversation for good; nothing is left behind.
        :raises NotConfigured: a setting is missing, which the text names.
        :raises LedgerUnavailable: the handoff could not be stored; nothing was accepted.
        :raises ValueError: there is no contact, an id is empty, too long, or no id of an agent, ``idle_timeout`` is not
            more than ``idle_warning``, the link is no https address, or a property of the ticket has no name of
            HubSpot's.
        :raises TypeError: an id, a fact, the link or the ticket is of the wrong type, a turn of the history is not
            understood, or JSON can't hold the attributes; nothing is stored.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import availability, verbs

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
            idle_warning=idle_warning,
            idle_timeout=idle_timeout,
            facts=facts,
            link=link,
            ticket=ticket,
        )
        if require_available:
            availability.require(runtime.services, opening)
        return verbs.start(runtime, opening)

    def accept(self, event: str, conversation_id: str) -> Handoff | None:
        """Say whose conversation an agent has begun; for receivers of ``operator_started``.

        The handoff is open from then on, and its agent's message comes by ``operator_message``. The first one who
        accepts has it; the same again gives the same. Source: docs/rules.rst L4.

        :param event: what the signal gave.
        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :returns: the handoff; None when somebody else has accepted it for another conversation, or five minutes have
            passed and the agent was told that it failed.
        :raises DeliveryFailed: the conversation has an open handoff; if the receiver lets it through, the agent reads
            so.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        :raises ValueError: it is no such event, or the conversation's id is empty or too long.
        :raises TypeError: the conversation's id is of the wrong type.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.accept(_runtime(), event, conversation_id)

    @_when_off(lambda: None)
    def waiting(self, conversation_id: str) -> Waiting | None:
        """Return how many conversations are before this one, and about how long it will wait.

        It counts what came through our own channel to the same inbox, and nothing else that agents have there: HubSpot
        tells no queue. ``queue_changed`` tells when the place changes.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :returns: the place; None when the conversation does not wait: no handoff is open, or an agent has it.
        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.waiting(_runtime(), conversation_id)

    def availability(self, inbox_id: str | None = None, portal_id: str | None = None) -> Availability:
        """Return whether a live agent is there, before the bot promises one.

        With ``AVAILABILITY = hubspot`` HubSpot's users are asked, for at most 2.5 seconds; an answer is known for 15
        seconds. Somebody is there whose status is "available" within working hours: those kept in HubSpot, else
        ``BUSINESS_HOURS``, else all. Source: docs/hubspot.rst (Availability); docs/rules.rst J1.

        :param inbox_id: the inbox or help desk; by default that of ``start``.
        :param portal_id: the HubSpot account; by default that of ``start``.
        :returns: what is known; ``open`` is None when nobody can tell: HubSpot can't be asked, the scope is not
            granted, or it is not known who answers in the inbox.
        :raises NotConfigured: ``AVAILABILITY`` is none, or a setting is missing, which the text names.
        :raises LedgerUnavailable: the database can't be read.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .domain import Availability, AvailabilityReason
        from .handoffs import availability
        from .runtime import off_of

        if (off := off_of()) is not None and off.is_wanted:
            return Availability(False, reason=AvailabilityReason.OFF)
        return availability.availability(_runtime().services, inbox_id, portal_id)

    @_when_off(bool)
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
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.send(_runtime(), conversation_id, text, attachments=attachments, message_id=message_id)

    @_when_off(bool)
    def note(self, conversation_id: str, text: str, *, draft: bool = False) -> bool:
        """Tell the agents something that the user never sees.

        It is a comment on the thread, and in a help desk a note on the ticket, as ``NOTES_IN`` says; where HubSpot
        refuses these it is a message that says it is a note. Never waits for HubSpot. Source: docs/rules.rst L3.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param text: plain text, 1 to 50,000 characters.
        :param draft: it is a reply that a model proposes: it stands below a line that says so, as a block to copy.
        :returns: True: it is on disk, and on its way. False: no handoff is open.
        :raises ValueError: the text is empty or too long, or the id is.
        :raises TypeError: the text or the id is of the wrong type.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.note(_runtime(), conversation_id, text, draft=draft)

    @_when_off(bool)
    def assign(self, conversation_id: str, actor_id: str) -> bool:
        """Give the conversation to an agent, or to another one; ``operator_assigned`` follows when HubSpot has done it.

        Never waits for HubSpot. When it refuses the agent, ``assignment_refused`` is sent. HubSpot's API assigns to no
        team. Source: docs/hubspot.rst (Threads).

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param actor_id: an agent's actor id, ``A-987``, or user id.
        :returns: True: it is on disk, and on its way. False: no handoff is open.
        :raises ValueError: it is no id of an agent's, or the conversation's id is empty or too long.
        :raises TypeError: the conversation's id is of the wrong type.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.assign(_runtime(), conversation_id, actor_id)

    @_when_off(bool)
    def unassign(self, conversation_id: str) -> bool:
        """Take the conversation from its agent: it waits in the inbox again, and ``operator_unassigned`` follows.

        Never waits for HubSpot. Source: docs/hubspot.rst (Threads).

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :returns: True: it is on disk, and on its way. False: no handoff is open.
        :raises ValueError: the conversation's id is empty or too long.
        :raises TypeError: the conversation's id is of the wrong type.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.unassign(_runtime(), conversation_id)

    @_when_off(bool)
    def rate(self, conversation_id: str, score: float | str, comment: str | None = None) -> bool:
        """Tell the agents how the user rates the conversation's newest handoff, once; also after it has ended.

        It is where notes are. Never waits for HubSpot. Where HubSpot takes none the event is given up: see
        ``event_dead``.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param score: whatever the host counts in: 4, 4.5, "4 of 5", "👍"; at most 50 characters.
        :param comment: the user's words, or None; at most 50,000 characters.
        :returns: True: it is on disk, and on its way. False: it was rated before, or was never at HubSpot.
        :raises ValueError: there is no score, or something is too long or empty.
        :raises TypeError: the score or the id is of the wrong type.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.rate(_runtime(), conversation_id, score, comment)

    @_when_off(lambda: None)
    def stop(self, conversation_id: str, *, reason: str = "user", detail: str | None = None) -> None:
        """End the open handoff, if there is one: ``conversation_completed`` is sent once, HubSpot's thread is closed.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param reason: ``user``, ``timeout``, or another value of :class:`CloseReason`.
        :param detail: the host's own words for the reason; they come back in the signal and in ``handoff.detail``.
        :raises LedgerUnavailable: the end could not be stored; nothing was changed.
        :raises ValueError: there is no such reason, or the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        verbs.stop(_runtime(), conversation_id, reason=reason, detail=detail)

    @_when_off(lambda: None)
    def get(self, conversation_id: str) -> Handoff | None:
        """Return the conversation's open handoff, or None.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises NotConfigured: the app has no settings.
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
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        return self.get(conversation_id) is not None

    def bot_turn(self, conversation_id: str) -> BotTurn:
        """Return a context for one turn of the bot's, in which ``turn.reply(text)`` tells whether it may still speak.

        A model that needs ten seconds may answer after a human has taken over. Ask before its answer is delivered::

            with hitl.bot_turn(conversation_id) as turn:
                text = model(question)
                if turn.reply(text):
                    deliver(text)

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :returns: for ``with`` or ``async with``. To hand over from within, use ``turn.start(…)``: what the bot says
            then is let through until an operator has the conversation.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from flask.globals import app_ctx

        from .handoffs.bot_turns import BotTurn
        from .runtime import off_of

        off = off_of()
        return BotTurn(off if off is not None and off.is_wanted else _runtime(), app_ctx.app, conversation_id)

    @_when_off(list)
    def transcript(self, conversation_id: str) -> list[Message]:
        """Return the messages of the conversation's newest handoff, oldest first.

        The links of its files last as long as the conversation is kept: they lead to ``PUBLIC_URL``, where each visit
        asks HubSpot for the file's address of the hour. Whoever has such a link can read the file.

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :returns: messages of both sides; an empty list when there was no handoff.
        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.transcript(_runtime(), conversation_id)

    @_when_off(int)
    def mark_read(self, conversation_id: str, message_id: str | None = None) -> int:
        """Show the agent that the user has read their messages.

        Call it when the user has really seen them; a message that was merely delivered is shown as such by itself. The
        same again does nothing. Source: docs/hubspot.rst (Receipts).

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param message_id: the last message that the user has read, as a receiver or ``transcript()`` gave it; those
            before it count as read, too. None: all that ``operator_message``'s receivers have accepted.
        :returns: how many messages were not read before; 0 when there are none, or no such message.
        :raises LedgerUnavailable: it could not be stored; nothing was changed.
        :raises ValueError: an id is empty or too long.
        :raises TypeError: an id is of the wrong type.
        :raises NotConfigured: the app has no settings.
        :raises RuntimeError: there is no app context, or the extension is not on the app.
        """
        from .handoffs import verbs

        return verbs.mark_read(_runtime(), conversation_id, message_id)

    def attachment_url(self, conversation_id: str, attachment: Attachment) -> str:
        """Return a link that anybody can read a file of the conversation with, for ten minutes at least.

        HubSpot is asked, unless it was within the last fifty minutes. An attachment that HubSpot does not keep has its
        own ``url``, which is returned. Source: docs/hubspot.rst (Reading files).

        :param conversation_id: the host's own name of the conversation, 1 to 500 characters.
        :param attachment: one that a receiver or ``transcript()`` gave.
        :returns: an https address; whoever has it can read the file.
        :raises HubSpotNotFound: the file was deleted, or no message that is kept of the conversation has it.
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
        :raises HubSpotNotFound: the file was deleted, or no message that is kept of the conversation has it.
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
