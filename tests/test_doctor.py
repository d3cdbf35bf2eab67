"""Doctor: one broken set-up for each thing that it can find, each held to ``doctor.golden``; a healthy one is quick.

The golden file is written anew, to be read by a human, with ``HITL_GOLDEN=write``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from click.testing import CliRunner, Result
from flask import Flask, request
from flask.cli import ScriptInfo
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from flask_hubspot_hitl import (
    CloseReason,
    DeliveryDelayed,
    HubSpotHITL,
    HubSpotUnavailable,
    LedgerUnavailable,
    conversation_completed,
    operator_assigned,
    operator_message,
)
from flask_hubspot_hitl.cli.doctor import Code, Finding, Level, Report, examination
from flask_hubspot_hitl.cli.doctor.command import doctor, show
from flask_hubspot_hitl.cli.doctor.store import unavailable
from flask_hubspot_hitl.clock import Clock, ManualClock, to_datetime
from flask_hubspot_hitl.dispatch import housekeeping
from flask_hubspot_hitl.dispatch.dispatcher import TICK
from flask_hubspot_hitl.handoffs import rules, transitions
from flask_hubspot_hitl.hubspot.oauth import Tokens
from flask_hubspot_hitl.hubspot.paths import NEWEST, Paths
from flask_hubspot_hitl.hubspot.scopes import SCOPES, TEAMS_SCOPE, TICKET_NOTES_SCOPES, USERS_SCOPE, AppKind, needed
from flask_hubspot_hitl.hubspot.setup import wanted
from flask_hubspot_hitl.ledger.bridges import REFUSED
from flask_hubspot_hitl.ledger.crypto import Cipher
from flask_hubspot_hitl.portals import arrivals, deployment, journal, setup
from flask_hubspot_hitl.portals.tokens import encrypted

from .browser import Browser, said
from .conftest import MakeApp, Serve
from .helpers import (
    ACCOUNT,
    CHANNEL,
    PATIENCE,
    PORTAL,
    HubSpot,
    Json,
    app_event,
    assigned_event,
    begin_handoff,
    channel_event,
    new_message_event,
    open_handoff,
    seconds_of,
    signed_post,
    state_of,
    status_event,
    wait_until,
)
from .processes import uwsgi
from .project_commands import WEBHOOKS as WEBHOOKS_FILE
from .project_commands import bot, call, load, save

GOLDEN = Path(__file__).with_name("doctor.golden")
CHANNELS = "/conversations/v3/custom-channels"
WEBHOOKS = "/webhooks/v3/3131"
HELP_DESK = "700200999"
SECRET_KEY = "the key of the session"
CORE = (operator_assigned, operator_message, conversation_completed)


class Clinic:
    """Makes set-ups that are healthy but for what a test breaks, and has doctor look at them."""

    def __init__(self, make_app: MakeApp, serve: Serve, hubspot: HubSpot, stack: contextlib.ExitStack) -> None:
        self._make_app = make_app
        self._serve = serve
        self.hubspot = hubspot
        self.stack = stack
        self.env = hubspot.env()
        self.app: Flask | None = None
        self._receivers: list[Callable[..., None]] = []

    def make(
        self, *, clock: Clock | None = None, handlers: bool = True, on: Callable[..., None] | None = None, **config: Any
    ) -> Flask:
        """An app with handlers. HubSpot has what it needs of it, as after ``setup``."""
        config = {"SECRET_KEY": SECRET_KEY, "api_version": None} | config  # whatever version the suite is run with
        app = self.app = self._make_app(clock=clock, **{"dispatcher": "thread", **config})

        def receive(sender: Flask, **extra: object) -> None:
            if on is not None:
                on(**extra)

        self._receivers.append(receive)
        for signal in CORE if handlers else ():
            signal.connect(receive, app)
        return app

    def open(self, app: Flask | None = None, **config: Any) -> Flask:
        """Make an app and serve it; somebody dispatches."""
        app = app or self.make(**config)
        self._serve(app)
        self.put_right(app)
        dispatcher = state_of(app).dispatcher
        if dispatcher.mode == "thread":
            dispatcher.ensure_started()
            wait_until(lambda: self.is_alive(app), what="a sign of life")
        return app

    @staticmethod
    def is_alive(app: Flask) -> bool:
        with state_of(app).ledger.read() as tx:
            return bool(tx.signs.all())

    def put_right(self, app: Flask) -> None:
        """What ``setup`` does at HubSpot."""
        runtime = state_of(app)
        url = runtime.settings.webhook_urls()[0]
        self.change_channel(**setup.wanted_channel(runtime.settings, runtime.ledger.find()).body())
        self.developer("PUT", f"{WEBHOOKS}/settings", wanted.webhook_settings(url))

    def change_channel(self, **fields: Any) -> None:
        self.developer("PATCH", f"{CHANNELS}/{CHANNEL}", fields)

    def developer(self, method: str, path: str, body: Json | None = None) -> Json:
        """A call with the developer key."""
        query = {"hapikey": self.env["HUBSPOT_HITL_DEVELOPER_API_KEY"], "appId": "3131"}
        answer = requests.request(method, f"{self.hubspot.url}{path}", params=query, json=body, timeout=20)
        assert answer.ok, answer.text
        found: Json = answer.json() if answer.content else {}
        return found

    def portal(self, method: str, path: str, body: Json | None = None) -> Json:
        """A call with the portal's token."""
        token = self.hubspot.get("access-token")["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        answer = requests.request(method, f"{self.hubspot.url}{path}", headers=bearer, json=body, timeout=20)
        assert answer.ok, answer.text
        found: Json = answer.json()
        return found

    def subscription(self, kind: str, name: str | None = None) -> str:
        """The path of a subscription."""
        found = self.developer("GET", f"{WEBHOOKS}/subscriptions")["results"]
        wanted_one = next(one for one in found if (one["eventType"], one.get("propertyName")) == (kind, name))
        return f"{WEBHOOKS}/subscriptions/{wanted_one['id']}"

    def somebody(self, answer: Callable[[Request], Response], **options: Any) -> str:
        """Another server; its URL."""

        @Request.application
        def application(request: Request) -> Response:
            return answer(request)

        server = make_server("127.0.0.1", 0, application, threaded=True, **options)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.stack.callback(thread.join, 5)
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)
        return f"http{'s' if options else ''}://127.0.0.1:{server.port}"

    def behind(self, answer: Callable[[Request], Response], **options: Any) -> Flask:
        """An app whose public URL is another server's."""
        return self.open(public_url=self.somebody(answer, **options))

    def look(self, *arguments: str) -> Result:
        """What doctor says of the newest app."""
        return self.run("doctor", *arguments)

    def run(self, *arguments: str) -> Result:
        """What a command says of the newest app."""
        assert self.app is not None
        return self.app.test_cli_runner().invoke(args=["hubspot-hitl", *arguments])


@pytest.fixture
def clinic(make_app: MakeApp, serve: Serve, hubspot: HubSpot) -> Iterator[Clinic]:
    with contextlib.ExitStack() as stack:
        yield Clinic(make_app, serve, hubspot, stack)


def test_files_in_the_settings_of_a_project_app(clinic: Clinic) -> None:
    arrive(clinic.open(app_kind="project", scopes=f"{','.join(SCOPES)},files"))
    found = [(one["code"], one["portal_id"]) for one in json.loads(clinic.look("--json").stdout)["findings"]]
    assert found == [(Code.LEGACY_SCOPE.code, None), (Code.LEGACY_SCOPE.code, PORTAL)]


# --- what can be broken ----------------------------------------------------------------------------------

Break = Callable[[Clinic], Result | None]
BROKEN: dict[Code, tuple[Break, tuple[Code, ...]]] = {}


def breaks(code: Code, *also: Code) -> Callable[[Break], Break]:
    """The function sets something up in which just this is found, and what cannot be told apart from it."""

    def note(function: Break) -> Break:
        assert code not in BROKEN
        BROKEN[code] = function, also
        return function

    return note


@breaks(Code.SETTING)
def a_setting(clinic: Clinic) -> Result:
    return _invoke(doctor, app=lambda: clinic.make(client_secret=None, lease_ttl="soon"))


@breaks(Code.UNKNOWN_SETTING)
def an_unknown_setting(clinic: Clinic) -> None:
    clinic.open(inbox_idd="700200300")


@breaks(Code.NO_HANDLER)
def no_handlers(clinic: Clinic) -> None:
    clinic.open(handlers=False)


@breaks(Code.NO_KEY)
def no_key(clinic: Clinic) -> None:
    clinic.open(SECRET_KEY=None)


@breaks(Code.DATABASE)
def a_newer_database(clinic: Clinic) -> Result:
    app = clinic.make()
    with state_of(app).ledger.write() as tx:
        tx.set_meta("schema_version", "99")
    return _invoke(doctor, app=clinic.make)


@breaks(Code.READ_ONLY)
def a_database_that_is_locked(clinic: Clinic) -> None:
    app = clinic.open(dispatcher="inline", TESTING=True)
    url = state_of(app).settings.database_url or ""
    lock = os.open(url.removeprefix("sqlite:///") + ".lock", os.O_RDWR)
    clinic.stack.callback(os.close, lock)
    fcntl.flock(lock, fcntl.LOCK_EX)


@breaks(Code.NOT_ADOPTED)
def a_copied_database(clinic: Clinic) -> None:
    app = clinic.open()
    assert state_of(app).dispatcher.blocked() is None
    clinic.open()


@breaks(Code.UNREADABLE_TOKEN)
def another_key(clinic: Clinic) -> None:
    state_of(clinic.make(dispatcher="inline")).services.client("424242").inboxes()
    clinic.open(SECRET_KEY="another key")


@breaks(Code.OPEN_FOLDER)
def a_folder_that_others_may_look_into(clinic: Clinic) -> None:
    app = clinic.open()
    folder = Path((state_of(app).settings.database_url or "").removeprefix("sqlite:///")).parent
    folder.chmod(0o755)


@breaks(Code.OTHER_STORE, Code.URL_PRIVATE)
def a_database_that_comes_up_empty(clinic: Clinic) -> None:
    own: Json = dict.fromkeys(("client_secret", "developer_api_key", "refresh_token"), "not the stand-in's")
    own |= {"api_base_url": "https://hubspot.invalid", "dispatcher": "inline"}
    app = clinic.make(**own)
    with state_of(app).ledger.read():
        pass
    url = state_of(app).settings.database_url
    clinic.open(database_url=f"{url}.empty", **own)


@breaks(Code.OLD_CONVERSATIONS)
def an_upgrade_with_old_conversations(clinic: Clinic) -> None:
    app = clinic.open()
    with state_of(app).ledger.write() as tx:
        now = state_of(app).ledger.now_ms()
        record = begin_handoff(tx, "c1", now=now)
        long_ago = now - 500 * housekeeping.DAY_MS
        rules.close(tx, record, reason=CloseReason.AGENT, detail=None, at_ms=long_ago, now=now)
        tx.set_meta("prunes_conversations_from", str(now + housekeeping.NOTICE_MS))


@breaks(Code.URL_PRIVATE, Code.HUBSPOT_DOWN)
def an_address_of_this_machine(clinic: Clinic) -> None:
    own: Json = dict.fromkeys(("client_secret", "developer_api_key", "refresh_token"), "not the stand-in's")
    clinic.open(api_base_url="https://hubspot.invalid", **own)


@breaks(Code.URL_UNREACHABLE)
def nobody_listens(clinic: Clinic) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        clinic.open(public_url=f"http://127.0.0.1:{taken.getsockname()[1]}")


@breaks(Code.URL_CERTIFICATE)
def a_certificate_of_ones_own(clinic: Clinic) -> None:
    clinic.behind(lambda request: Response(), ssl_context="adhoc")


@breaks(Code.URL_REDIRECTS)
def a_redirect(clinic: Clinic) -> None:
    place = "https://www.bot.example/hubspot/webhook?token=secret"
    clinic.behind(lambda request: Response(status=301, headers={"Location": place}))


@breaks(Code.URL_NOT_FOUND)
def a_path_too_many(clinic: Clinic) -> None:
    app = clinic.make()
    url = f"http://127.0.0.1:{app.config['TEST_PORT']}"
    mounted = clinic.make(public_url=f"{url}/bot")
    mounted.config["TEST_PORT"] = app.config["TEST_PORT"]
    clinic.open(mounted)


@breaks(Code.URL_REFUSES)
def a_server_with_old_settings(clinic: Clinic) -> None:
    server = clinic.open()
    url = state_of(server).settings.public_url[0]
    own: Json = {"client_id": None, "refresh_token": None, "access_token": _access_token(clinic)}
    clinic.make(public_url=url, client_secret="sim-secret-of-tomorrow", **own)


@breaks(Code.URL_TROUBLE)
def a_proxy_without_an_app(clinic: Clinic) -> None:
    clinic.behind(lambda request: Response("<h1>Bad gateway</h1>", status=502))


@breaks(Code.URL_OTHER_APP)
def another_app(clinic: Clinic) -> None:
    clinic.behind(lambda request: Response("Welcome"))


@breaks(Code.URL_OTHER_STORE)
def production(clinic: Clinic) -> None:
    there = clinic.make()
    path = state_of(there).settings.database_url or ""
    here = clinic.make(
        public_url=state_of(there).settings.public_url[0],
        database_url=path.replace("hitl.sqlite3", "other.sqlite3"),
    )
    clinic.open(there)
    clinic.put_right(here)
    state_of(here).dispatcher.ensure_started()
    wait_until(lambda: clinic.is_alive(here), what="a sign of life")
    clinic.app = here


@breaks(Code.URL_OTHER_VERSION)
def an_older_server(clinic: Clinic) -> None:
    def answer(request: Request) -> Response:
        nonce = deployment.self_test_nonce(request.get_data()) or ""
        facts = {"deployment_id": state_of(app).ledger.deployment_id, "version": "0.0.1"}
        sealed = Cipher((), [clinic.env["HUBSPOT_HITL_CLIENT_SECRET"]]).encrypt(nonce, facts)
        return Response(json.dumps({"self_test": sealed}), content_type="application/json")

    app = clinic.behind(answer)


@breaks(Code.URL_BODY)
def a_hook_that_reads_every_body(clinic: Clinic) -> None:
    app = clinic.make()
    app.before_request(lambda: request.stream.read() and None)
    clinic.open(app)


@breaks(Code.HUBSPOT_DOWN)
def hubspot_is_down(clinic: Clinic) -> None:
    clinic.open()
    clinic.hubspot.chaos(faults=[{"match": "GET /account-info.*", "status": 503}])


@breaks(Code.CLOCK)
def a_clock_that_is_slow(clinic: Clinic) -> None:
    clinic.open(clock=ManualClock(time.time_ns() // 1_000_000 - 600_000))


@breaks(Code.APP_UNSEEN)
def no_developer_key(clinic: Clinic) -> None:
    clinic.open(developer_api_key=None)


@breaks(Code.DEVELOPER_KEY)
def a_wrong_developer_key(clinic: Clinic) -> None:
    clinic.open(developer_api_key="sim-not-the-key")


@breaks(Code.NO_CHANNEL)
def no_channel(clinic: Clinic) -> None:
    clinic.open(channel_id=None)


@breaks(Code.CHANNEL_GONE)
def a_channel_that_is_not_there(clinic: Clinic) -> None:
    clinic.open(channel_id="100999")


@breaks(Code.CHANNEL_URL)
def a_channel_that_leads_elsewhere(clinic: Clinic) -> None:
    clinic.open()
    clinic.change_channel(webhookUrl="https://staging.bot.example/hubspot/webhook")


@breaks(Code.CAPABILITIES)
def a_channel_that_can_do_less(clinic: Clinic) -> None:
    clinic.open()
    less = wanted.CAPABILITIES | {"allowOutgoingMessages": False, "outgoingAttachmentTypes": []}
    clinic.change_channel(capabilities=less)


@breaks(Code.TARGET_URL)
def a_target_elsewhere(clinic: Clinic) -> None:
    clinic.open()
    elsewhere = wanted.webhook_settings("https://staging.bot.example/hubspot/webhook")
    clinic.developer("PUT", f"{WEBHOOKS}/settings", elsewhere)


@breaks(Code.SUBSCRIPTIONS)
def subscriptions_gone_and_paused(clinic: Clinic) -> None:
    clinic.open()
    clinic.developer("DELETE", clinic.subscription("conversation.propertyChange", "status"))
    clinic.developer("PATCH", clinic.subscription("conversation.deletion"), {"active": False})


@breaks(Code.PRIVATE_APP, Code.REVOKED)
def a_private_app(clinic: Clinic) -> None:
    clinic.open(refresh_token=None, access_token="pat-eu1-0001")


@breaks(Code.CHANNEL_MARK)
def somebody_elses_channel(clinic: Clinic) -> None:
    clinic.open()
    clinic.change_channel(channelDescription=wanted.marked("Ours", "f00d"))


@breaks(Code.CONNECT_URL)
def an_old_connect_url(clinic: Clinic) -> None:
    clinic.open()
    clinic.change_channel(channelAccountConnectionRedirectUrl="https://old.bot.example/hubspot/connect")


@breaks(Code.API_ENDS)
def an_api_version_that_ends(clinic: Clinic) -> None:
    clinic.open(api_version="v3", oauth_version="2026-09")


@breaks(Code.OAUTH_ENDS)
def an_oauth_version_that_ends(clinic: Clinic) -> None:
    clinic.open(api_version=None, oauth_version="v1")


@breaks(Code.LEGACY_SCOPE)
def a_legacy_app_that_counts_as_a_project_app(clinic: Clinic) -> None:
    arrive(clinic.open(app_kind="project"))


@breaks(Code.FILES_DIFFER)
def files_for_another_address(clinic: Clinic) -> None:
    app = a_project_app(clinic, project_dir="hubspot-app")
    folder = in_its_folder(clinic, app)
    with bot(folder / "other") as other:
        call(other, "init", folder / "hubspot-app")
    hooks = load(folder / "hubspot-app", WEBHOOKS_FILE)
    del hooks["config"]["subscriptions"]["hubEvents"][0]
    save(folder / "hubspot-app", WEBHOOKS_FILE, hooks)


@breaks(Code.FILES_UNREADABLE)
def a_file_where_the_project_should_be(clinic: Clinic) -> None:
    app = a_project_app(clinic, project_dir="hubspot-app")
    (in_its_folder(clinic, app) / "hubspot-app").write_text("{}", encoding="utf-8")


@breaks(Code.UNPROVEN)
def webhooks_that_never_came(clinic: Clinic) -> None:
    a_project_app(clinic, sees=("deletion",))


@breaks(Code.INSTALL_CAP)
def an_app_that_eight_accounts_have(clinic: Clinic) -> None:
    install_in(a_project_app(clinic), 8)


@breaks(Code.MORE_SCOPES)
def scopes_that_nothing_uses(clinic: Clinic) -> None:
    clinic.open(
        refresh_token=None,
        access_token=_access_token(clinic, f"?scopes={','.join((*SCOPES, 'files', 'crm.objects.deals.read'))}"),
    )


@breaks(Code.UNTOLD)
def a_portal_that_does_not_tell_who_is_there(clinic: Clinic) -> None:
    granted = f"?scopes={','.join((*SCOPES, 'files'))}"
    clinic.open(refresh_token=None, access_token=_access_token(clinic, granted), availability="hubspot")


@breaks(Code.NO_MEMBER)
def members_whom_hubspot_does_not_know(clinic: Clinic) -> None:
    granted = f"?scopes={','.join((*SCOPES, 'files', USERS_SCOPE, TEAMS_SCOPE))}"
    token = _access_token(clinic, granted)
    members = "987,A-5,700200300/A-5,team:7"
    clinic.open(refresh_token=None, access_token=token, availability="hubspot", inbox_members=members)


@breaks(Code.MACHINES)
def a_customer_agent_that_takes_conversations(clinic: Clinic) -> None:
    app = clinic.open()
    with state_of(app).ledger.write() as tx:
        now = state_of(app).ledger.now_ms()
        for number, ended in enumerate((False, True, True)):
            record = begin_handoff(tx, f"c{number}", now=now)
            taken = now - number * 5 * housekeeping.DAY_MS
            transitions.assigned(tx, record, None, machine="L-77", occurred_ms=taken)
            if ended:
                rules.close(tx, record, reason=CloseReason.AGENT, detail=None, at_ms=now, now=now)


@breaks(Code.NO_TICKETS)
def a_portal_that_does_not_show_its_tickets(clinic: Clinic) -> None:
    granted = f"?scopes={','.join((*SCOPES, 'files'))}"
    clinic.open(refresh_token=None, access_token=_access_token(clinic, granted), tickets=True)


@breaks(Code.JOURNAL_REFUSED)
def an_app_without_the_journals_scopes(clinic: Clinic) -> None:
    clinic.hubspot.chaos(journal="refused")
    clinic.open(journal="on")


@breaks(Code.JOURNAL_UNSUBSCRIBED)
def an_app_that_subscribed_to_half_of_it(clinic: Clinic) -> None:
    state_of(clinic.open(journal="on")).services.journal().subscribe("APP_INSTALL")


@breaks(Code.JOURNAL_LATE)
def a_journal_that_nobody_reads(clinic: Clinic) -> None:
    app = clinic.make(journal="on", clock=ManualClock())
    for action in ("APP_INSTALL", "APP_UNINSTALL"):
        state_of(app).services.journal().subscribe(action)
    clinic.open(app)
    ledger = state_of(app).ledger

    def place() -> journal.Place:
        with ledger.read() as tx:
            return journal.load(tx)

    wait_until(lambda: place().read_at, what="the first look, after which the clock stands still")
    with ledger.write() as tx:
        journal.save(tx, journal.Place(read_at=ledger.now_ms() - 1_800_000))


@breaks(Code.NO_PORTAL)
def nobody_has_installed_it(clinic: Clinic) -> None:
    clinic.open(portal_id=None, refresh_token=None, channel_account_id=None, inbox_id=None)


@breaks(Code.NO_TOKEN)
def no_token(clinic: Clinic) -> None:
    clinic.open(refresh_token=None)


@breaks(Code.REVOKED)
def uninstalled(clinic: Clinic) -> None:
    clinic.open(refresh_token="sim-refresh-of-yesterday")


@breaks(Code.APP_REFUSED)
def another_apps_secret(clinic: Clinic) -> None:
    clinic.open(client_secret="sim-secret-of-yesterday")


@breaks(Code.OTHER_PORTAL)
def a_token_of_another_portal(clinic: Clinic) -> None:
    own: Json = {"inbox_id": None, "channel_account_id": None}
    clinic.open(portal_id="525252", refresh_token=None, access_token=_access_token(clinic), **own)


@breaks(Code.OTHER_APP, Code.DEVELOPER_KEY)
def a_token_of_another_app(clinic: Clinic) -> None:
    clinic.open(app_id="9999")


@breaks(Code.SCOPES)
def scopes_that_were_not_granted(clinic: Clinic) -> None:
    few = "oauth,conversations.read,conversations.write,conversations.custom_channels.read,files.read,files.write"
    clinic.open(refresh_token=None, access_token=_access_token(clinic, f"?scopes={few}"))


@breaks(Code.TIER)
def the_starter_tier(clinic: Clinic) -> None:
    clinic.open()
    clinic.hubspot.chaos(tier="starter")


@breaks(Code.NO_INBOX)
def no_inbox(clinic: Clinic) -> None:
    clinic.open(inbox_id=None, channel_account_id=None)


@breaks(Code.INBOX_GONE)
def an_inbox_that_is_not_there(clinic: Clinic) -> None:
    clinic.open(inbox_id="700200301", channel_account_id=None)


@breaks(Code.INBOX_KIND)
def an_inbox_of_a_new_kind(clinic: Clinic) -> None:
    def relay(request: Request) -> Response:
        """HubSpot, of a future version."""
        url, headers = f"{clinic.hubspot.url}{request.full_path}", dict(request.headers)
        answer = requests.request(request.method, url, data=request.get_data(), headers=headers, timeout=20)
        body = answer.content.replace(b'"INBOX"', b'"CALL_CENTER"') if "/inboxes" in url else answer.content
        return Response(body, answer.status_code, content_type=answer.headers.get("Content-Type"))

    clinic.open(api_base_url=clinic.somebody(relay))


@breaks(Code.NOT_CONNECTED)
def an_inbox_that_is_not_connected(clinic: Clinic) -> None:
    clinic.open(inbox_id=HELP_DESK, channel_account_id=None, notes_in="comment")


@breaks(Code.ACCOUNT_GONE)
def an_account_that_was_removed(clinic: Clinic) -> None:
    clinic.open()
    clinic.hubspot.post(f"channel-accounts/{ACCOUNT}/purge")


@breaks(Code.UNAUTHORIZED)
def an_account_without_authority(clinic: Clinic) -> None:
    clinic.open()
    clinic.hubspot.post(f"channel-accounts/{ACCOUNT}/disable")


@breaks(Code.INACTIVE)
def an_account_that_is_switched_off(clinic: Clinic) -> None:
    clinic.open()
    clinic.hubspot.post(f"channel-accounts/{ACCOUNT}/deactivate")


@breaks(Code.ACCOUNT_INBOX)
def an_account_of_another_inbox(clinic: Clinic) -> None:
    clinic.open(inbox_id=HELP_DESK, notes_in="comment")


@breaks(Code.ACCOUNT_MARK)
def somebody_elses_account(clinic: Clinic) -> None:
    identifier = wanted.account_identifier("f00d", "424242", HELP_DESK)
    egg = {"inboxId": HELP_DESK, "name": "Theirs", "authorized": True, "deliveryIdentifier": identifier}
    made = clinic.portal("POST", f"{CHANNELS}/{CHANNEL}/channel-accounts", egg)
    clinic.open(inbox_id=HELP_DESK, channel_account_id=made["id"], notes_in="comment")


@breaks(Code.REFUSED)
def a_call_that_is_refused(clinic: Clinic) -> None:
    clinic.open()
    clinic.hubspot.chaos(faults=[{"match": "GET .*/inboxes", "status": 400}])


@breaks(Code.POSTPONED)
def a_budget_that_is_spent(clinic: Clinic) -> None:
    app = clinic.open(rate_limit=3)
    for _ in range(3):
        with contextlib.suppress(HubSpotUnavailable):
            state_of(app).services.client(PORTAL).account_info()


@breaks(Code.NOBODY_DISPATCHES)
def no_worker(clinic: Clinic) -> None:
    clinic.open(dispatcher="external")


@breaks(Code.NO_THREADS, Code.NOBODY_DISPATCHES)
def a_uwsgi_without_threads(clinic: Clinic) -> None:
    clinic.stack.enter_context(uwsgi(has_threads=False))
    clinic.open()


@breaks(Code.INLINE)
def the_mode_for_tests(clinic: Clinic) -> None:
    clinic.open(dispatcher="inline")


@breaks(Code.HUNG)
def a_handler_that_hangs(clinic: Clinic) -> None:
    begun, released = threading.Event(), threading.Event()
    clinic.stack.callback(released.set)

    def hang(**extra: object) -> None:
        begun.set()
        released.wait(2 * PATIENCE)

    app = clinic.open(handler_timeout="0.2", lease_ttl="120", on=hang)
    _agent_writes(app)
    assert begun.wait(PATIENCE)
    wait_until(lambda: _hung(app) == {"in"}, what="it to be noticed")


@breaks(Code.FULL, Code.HUNG)
def handlers_that_hang_in_all_threads(clinic: Clinic) -> None:
    released = threading.Event()
    clinic.stack.callback(released.set)
    app = clinic.open(
        handler_timeout="0.2",
        lease_ttl="120",
        on=lambda **extra: released.wait(600),
        dispatcher_threads="1",
        dispatcher_max_threads="1",
    )
    _agent_writes(app)
    wait_until(lambda: _hung(app) == {"in"}, what="it to be noticed")


def _hung(app: Flask) -> set[str]:
    """What hangs, by the beginnings of its lanes' names: on a busy machine for a moment also what only takes long."""
    return {one.partition(":")[0] for one in _status(app)["hung_lanes"]}


@breaks(Code.BRIDGE_REFUSED)
def a_bridge_with_a_wrong_key(clinic: Clinic) -> None:
    ledger = state_of(clinic.open()).ledger
    with ledger.write() as tx:
        since = ledger.now_ms() - 7_200_000
        value = {
            "since": since,
            "error": "e",
            "settings": "HUBSPOT_HITL_BOTPRESS_TOKEN and HUBSPOT_HITL_BOTPRESS_BOT_ID",
        }
        tx.bridges.put("studio", REFUSED, value, now=since)


@breaks(Code.LATE)
def a_handler_that_waits_for_long(clinic: Clinic) -> None:
    def delay(**extra: object) -> None:
        raise DeliveryDelayed("closed")

    clock = ManualClock(time.time_ns() // 1_000_000 - 150_000)
    app = clinic.open(clock=clock, dispatcher="inline", TESTING=True, on=delay)
    _agent_writes(app)
    clock.advance(150)


@breaks(Code.GIVEN_UP)
def a_handler_that_never_heals(clinic: Clinic) -> None:
    def fail(**extra: object) -> None:
        raise RuntimeError

    app = clinic.open(dispatcher="inline", TESTING=True, max_attempts="1", on=fail)
    _agent_writes(app)


@breaks(Code.BUG)
def a_bug(clinic: Clinic) -> Result:
    def trip() -> list[Finding]:
        raise KeyError("secret")

    report = Report(tuple(examination.safely(("a test", trip))), (), 0.0)
    assert not report.is_well
    return _invoke(click.command()(lambda: show(report)))


def a_project_app(clinic: Clinic, sees: tuple[str, ...] = (), **config: Any) -> Flask:
    """A project app as far as doctor knows, with the scopes of one; what it ``sees`` has arrived, by default all."""
    token = _access_token(clinic, f"?scopes={','.join((*SCOPES, 'files.read', 'files.write'))}")
    config = {"app_kind": "project", "refresh_token": None, "access_token": token} | config
    app = clinic.open(**config)
    arrive(app, *sees)
    return app


def arrive(app: Flask, *subscriptions: str) -> None:
    """HubSpot tells of threads that are not ours; by default whatever an ordinary handoff brings.

    What has arrived is noted when that is quickly done, else with the next webhook.
    """
    ledger = state_of(app).ledger
    at = ledger.now_ms()
    events = [app_event(one, at=at) for one in subscriptions]
    ordinary = [new_message_event("m1", at=at), assigned_event("A-1", at=at), status_event("CLOSED", at=at)]

    def noted() -> bool:
        assert signed_post(app, events or ordinary).status_code == 204
        with ledger.read() as tx:
            return len(arrivals.last(tx)) >= len(events or ordinary)

    wait_until(noted, what="that it is noted")


def in_its_folder(clinic: Clinic, app: Flask) -> Path:
    """Let doctor be run in the folder of the database."""
    folder = Path((state_of(app).settings.database_url or "").removeprefix("sqlite:///")).parent
    clinic.stack.enter_context(contextlib.chdir(folder))
    return folder


def install_in(app: Flask, count: int) -> None:
    """Other accounts have installed the app; the configured one alone is looked at."""
    runtime = state_of(app)
    cipher = runtime.services.cipher()
    assert cipher is not None
    tokens = Tokens(access_token="", refresh_token="sim-theirs", expires_at_ms=0, renew_at_ms=0)
    with runtime.ledger.write() as tx:
        for number in range(count):
            portal_id = str(600_000 + number)
            tx.installations.install(portal_id, encrypted(cipher, portal_id, tokens), scopes=None, now=1)


def _invoke(command: click.Command, *arguments: str, app: Callable[[], Flask] | None = None) -> Result:
    return CliRunner().invoke(command, arguments, obj=ScriptInfo(create_app=app))


def _access_token(clinic: Clinic, query: str = "") -> str:
    found: str = clinic.hubspot.get(f"access-token{query}")["access_token"]
    return found


def _agent_writes(app: Flask) -> None:
    record = open_handoff(app, "c1")
    created = to_datetime(state_of(app).ledger.now_ms()).isoformat()
    event = channel_event("m1", integration_threads=[record.integration_thread_id], created=created)
    assert signed_post(app, event).status_code == 204


def _status(app: Flask) -> Json:
    with state_of(app).ledger.read() as tx:
        return tx.status(now=state_of(app).ledger.now_ms())


# --- each finding ----------------------------------------------------------------------------------------

CHANGING = (
    (r"http(s?)://127\.0\.0\.1:[0-9]+", r"http\1://127.0.0.1:PORT"),
    (r"\b[0-9a-f]{16}\b", "DEPLOYMENT"),
    (r"\b900100[0-9]{3}\b", "MADE-JUST-NOW"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "CORRELATION"),
    (r"\b(59|6[0-5])[0-9] s behind", "600 s behind"),
    (r"knows [0-9]+:", "knows N:"),
    (r"in [0-9.]+ s\.$", "in N s."),
    (r"oldest for [0-9]+ s", "oldest for N s"),
    (r"[0-9]+ s left", "N s left"),
    (r"\(?/?[\w/.-]*hitl.sqlite3", "FILE"),
    (r"threads of: \S+\.$", "threads of: PROCESS."),
    (r"folder /[\w/.-]*", "folder FOLDER"),
    (r"Last \d{4}-\d\d-\d\dT[\d:]{8}\+00:00", "Last TIME"),
)


def plain(output: str) -> str:
    """Without what differs from run to run."""
    for pattern, word in CHANGING:
        output = re.sub(pattern, word, output, flags=re.MULTILINE)
    return output


def golden() -> dict[str, str]:
    """What doctor said when it was last read by a human, by code."""
    parts = re.split(r"^=+ (HH[0-9]{3}) =+\n", GOLDEN.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.code)
def test_each_finding(code: Code, clinic: Clinic) -> None:
    breaking, also = BROKEN[code]
    result = breaking(clinic) or clinic.look()
    found = plain(result.stdout)
    assert not isinstance(result.exception, Exception), result.exception
    told = {one for one in Code if re.search(rf"^{one.code} ", found, flags=re.MULTILINE)}
    assert told == {code, *also}, result.output
    if code is not Code.BUG:  # which is not looked for by the command
        assert result.exit_code == int(any(one.level is Level.ERROR for one in told))
    for name, value in clinic.env.items():
        assert not (any(word in name for word in ("SECRET", "KEY", "TOKEN")) and value in result.output), name
    assert SECRET_KEY not in result.output
    if os.environ.get("HITL_GOLDEN") == "write":
        WRITTEN[code.code] = found
        text = "".join(f"{'=' * 20} {name} {'=' * 20}\n{WRITTEN[name]}" for name in sorted(WRITTEN))
        GOLDEN.write_text(text, encoding="utf-8")
    assert found == golden()[code.code]


WRITTEN: dict[str, str] = {}


def test_everything_that_can_be_found_is_broken_here() -> None:
    assert set(BROKEN) == set(Code)
    numbers = [one.code for one in Code]
    assert numbers == sorted(set(numbers))
    for one in Code:
        for text in (one.title, one.why, one.fix):
            assert text[0].isupper() or text.startswith("'"), text
        assert one.title.endswith("."), one.title


# --- a healthy one ---------------------------------------------------------------------------------------


def test_a_healthy_one(clinic: Clinic, database_url: str) -> None:
    clinic.open()
    result = clinic.look()
    assert result.exit_code == 0, result.output
    assert plain(result.stdout).splitlines() == [
        "Looked at the database, the app, http://127.0.0.1:PORT, the dispatcher, the app at HubSpot, portal 424242 "
        "in N s.",
        "All is well.",
    ]
    facts = json.loads(clinic.look("--json").stdout)
    assert (facts["ok"], facts["findings"], len(facts["looked_at"])) == (True, [], 6)
    reads = [one for one in clinic.hubspot.requests() if one["method"] not in ("GET", "POST")]
    assert [one["path"] for one in reads] == [f"{CHANNELS}/{CHANNEL}", f"{WEBHOOKS}/settings"], "clinic's own"
    posts = {one["path"] for one in clinic.hubspot.requests() if one["method"] == "POST"}
    assert posts == {Paths(NEWEST).oauth_token(), Paths(NEWEST).oauth_introspect()}


@pytest.mark.parametrize(
    ("notes_in", "more", "is_told"),
    [(None, (), True), (None, ("tickets",), False), ("comment", (), False), ("both", (), True)],
)
def test_a_help_desk_whose_tickets_are_out_of_reach(
    clinic: Clinic, notes_in: str | None, more: tuple[str, ...], is_told: bool
) -> None:
    token = _access_token(clinic, f"?scopes={','.join((*SCOPES, 'files', *more))}")
    clinic.open(inbox_id=HELP_DESK, refresh_token=None, access_token=token, notes_in=notes_in)
    assert (Code.NO_TICKETS.code in clinic.look().stdout) is is_told


def test_json(clinic: Clinic) -> None:
    clinic.open(handlers=False)
    result = clinic.look("--json")
    facts = json.loads(result.stdout)
    assert (result.exit_code, facts["ok"], len(facts["findings"])) == (1, False, 3)
    first = facts["findings"][0]
    assert (first["code"], first["level"], first["portal_id"]) == ("HH103", "error", None)
    assert all(first[name] for name in ("title", "what", "why", "fix"))


def test_looking_takes_hardly_longer_than_starting(clinic: Clinic, tmp_path: Path) -> None:
    """The whole command, in a process of its own, against an app that is served elsewhere: three seconds at most where
    the machine has nothing else to do. What it costs to start Python, Flask and the app is the measure elsewhere.
    """
    app = clinic.open()
    (tmp_path / "bot.py").write_text(BOT, encoding="utf-8")
    settings = {key: value for key, value in app.config.items() if key.startswith("HUBSPOT_HITL_")}
    environment = {**os.environ, **settings, "FLASK_SECRET_KEY": SECRET_KEY, "PYTHONPATH": str(tmp_path)}

    def run(*command: str) -> tuple[float, str]:
        began = time.monotonic()
        flask = [sys.executable, "-m", "flask", "--app", "bot", *command]
        done = subprocess.run(flask, env=environment, capture_output=True, text=True, timeout=100, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return time.monotonic() - began, done.stdout

    for _ in range(5):
        started, _ = run("routes")
        took, told = run("hubspot-hitl", "doctor", "--json")
        print(f"doctor, a healthy set-up: {took:.2f} s, of which {json.loads(told)['seconds']:.2f} s looking")
        if took < max(3, 3 * started):
            return
    pytest.fail(f"doctor takes {took:.2f} s where starting the app takes {started:.2f} s")


BOT = """
import os
from flask import Flask
from flask_hubspot_hitl import HubSpotHITL, conversation_completed, operator_assigned, operator_message

app = Flask("bot")
app.config.from_prefixed_env()
app.config.from_mapping({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
HubSpotHITL(app)

@operator_assigned.connect
@operator_message.connect
@conversation_completed.connect
def show(app, **extra):
    print(extra)
"""


# --- several accounts, slow servers, and who dispatches --------------------------------------------------


def test_each_account_is_looked_at_and_one_in_trouble_does_not_hide_the_others(clinic: Clinic) -> None:
    other = clinic.hubspot.post("apps", appId="3131", portalId="525252")
    app = clinic.make(portal_id=None, refresh_token=None, inbox_id=None, channel_account_id=None)
    runtime = state_of(app)
    cipher = runtime.services.cipher()
    assert cipher is not None
    refresh = {"424242": clinic.env["HUBSPOT_HITL_REFRESH_TOKEN"], "525252": "sim-of-yesterday"}
    assert other["HUBSPOT_HITL_PORTAL_ID"] == "525252"
    with runtime.ledger.write() as tx:
        for portal_id, token in refresh.items():
            tokens = Tokens(access_token="", refresh_token=token, expires_at_ms=0, renew_at_ms=0)
            tx.installations.install(portal_id, encrypted(cipher, portal_id, tokens), scopes=None, now=1)
        tx.installations.set_inbox("424242", "700200300")
    clinic.open(app)
    findings = json.loads(clinic.look("--json").stdout)["findings"]
    assert [(one["code"], one["portal_id"]) for one in findings] == [("HH503", "525252")]


@pytest.mark.parametrize(
    ("dead", "levels"), [(("525252",), ["warning"]), (("424242", "525252"), ["error", "error"]), ((PORTAL,), ["error"])]
)
def test_an_account_that_removed_the_app_fails_nothing_while_another_has_it(
    clinic: Clinic, dead: tuple[str, ...], levels: list[str]
) -> None:
    clinic.hubspot.post("apps", appId="3131", portalId="525252")
    is_configured = dead == (PORTAL,)  # then nothing else is looked at
    own: Json = {"portal_id": PORTAL if is_configured else None, "inbox_id": None, "channel_account_id": None}
    app = clinic.make(refresh_token=None, **own)
    runtime = state_of(app)
    cipher = runtime.services.cipher()
    assert cipher is not None
    with runtime.ledger.write() as tx:
        for portal_id in (PORTAL, "525252"):
            token = "sim-of-yesterday" if portal_id in dead else clinic.env["HUBSPOT_HITL_REFRESH_TOKEN"]
            tokens = Tokens(access_token="", refresh_token=token, expires_at_ms=0, renew_at_ms=0)
            tx.installations.install(portal_id, encrypted(cipher, portal_id, tokens), scopes=None, now=1)
            tx.installations.set_inbox(portal_id, "700200300")
    clinic.open(app)
    for _ in range(2):  # the first look finds out
        result = clinic.look("--json")
        findings = json.loads(result.stdout)["findings"]
        assert [(one["code"], one["level"]) for one in findings] == [("HH503", level) for level in levels]
        assert result.exit_code == int("error" in levels)
        assert all("install-url" in one["fix"] for one in findings)
    assert f"HH503 {levels[0]}" in clinic.look().stdout


def test_what_takes_long_shows_a_bar_and_ends(clinic: Clinic) -> None:
    released = threading.Event()
    clinic.stack.callback(released.set)
    clinic.behind(lambda request: Response(str(released.wait(100))))
    looks = []
    assert 4 < seconds_of(lambda: looks.append(clinic.look()), less_than=15) < 15
    result = looks[-1]
    assert "HH302" in result.stdout
    assert "no answer within 5 s; HubSpot waits no longer" in result.stdout
    assert "Looking" in result.stderr


def test_a_name_that_is_not_known_and_a_proxy_that_asks_for_a_password(clinic: Clinic) -> None:
    clinic.open(public_url="https://bot.invalid")
    assert "https://bot.invalid/hubspot/webhook: the name bot.invalid is not known." in clinic.look().stdout
    clinic.hubspot.reset()
    clinic.behind(lambda request: Response(status=401, headers={"WWW-Authenticate": "Basic"}))
    assert "not by the app but by something before it" in clinic.look().stdout


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"public_url": "https://{host}"}, "verifies https://{host}; here HUBSPOT_HITL_PUBLIC_URL is http://{host}."),
        (
            {"public_url": "http://{host}", "client_secret": "sim-old"},
            "verifies http://{host}, and knows an older client secret only;",
        ),
    ],
)
def test_what_the_app_behind_the_url_verifies_instead(clinic: Clinic, there: dict[str, str], told: str) -> None:
    probe = clinic.make(name="probe")
    host = f"127.0.0.1:{probe.config['TEST_PORT']}"
    settings: Json = {name: value.format(host=host) for name, value in there.items()}
    server = clinic.make(**settings)
    server.config["TEST_PORT"] = probe.config["TEST_PORT"]
    clinic.open(server)
    both = [clinic.env["HUBSPOT_HITL_CLIENT_SECRET"], "sim-old"]
    clinic.make(public_url=f"http://{host}", client_secret=both)
    assert told.format(host=host) in clinic.look().stdout


def test_a_secret_that_somebody_sends_back_is_not_told(clinic: Clinic) -> None:
    secret = clinic.env["HUBSPOT_HITL_CLIENT_SECRET"]
    clinic.behind(lambda request: Response(status=302, headers={"Location": f"/{secret}"}))
    output = clinic.look().output
    assert "HH304" in output
    assert secret not in output


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_app_whose_webhooks_hubspot_does_not_show(clinic: Clinic, status: int) -> None:
    clinic.open()
    clinic.hubspot.chaos(faults=[{"match": "GET /(app-)?webhooks/.*", "status": status}])
    result = clinic.look()
    assert result.exit_code == 0
    assert "HH403 warning" in result.stdout
    assert "this app counts as legacy-public" in result.stdout
    assert "set HUBSPOT_HITL_APP_KIND to project" in result.stdout


def test_a_project_app_is_well_without_the_webhooks_api(clinic: Clinic) -> None:
    a_project_app(clinic)
    before = len(clinic.hubspot.requests())
    result = clinic.look()
    assert result.stdout.endswith("All is well.\n"), result.stdout
    assert not [one for one in clinic.hubspot.requests()[before:] if "webhooks" in one["path"]]


@pytest.mark.parametrize(("kind", "told"), [("project", "project upload"), ("legacy-private", "Webhooks tab")])
def test_what_puts_it_right_is_told_by_kind(clinic: Clinic, kind: str, told: str) -> None:
    clinic.open(app_kind=kind, refresh_token=None, access_token="pat-eu1-0001", developer_api_key=None)
    fixes = {one["code"]: one["fix"] for one in json.loads(clinic.look("--json").stdout)["findings"]}
    assert told in fixes["HH422"]
    assert ("APP_ID" in fixes["HH403"]) == (kind == "project")
    assert ("Webhooks tab" in fixes["HH403"]) == (kind != "project")
    assert ("make oauth the type of its auth" in fixes["HH411"]) == (kind == "project")
    assert "public app" not in "".join(fixes.values())


@pytest.mark.parametrize(
    ("count", "distribution", "is_told"),
    [
        *((7, "private", False), (10, "private", True)),
        *((19, "marketplace", False), (25, "marketplace", True), (26, "marketplace", False)),
    ],
)
def test_how_many_may_install_it(clinic: Clinic, count: int, distribution: str, is_told: bool) -> None:
    app = a_project_app(clinic, project_dir="hubspot-app")
    folder = in_its_folder(clinic, app) / "hubspot-app"
    with bot(folder.parent / "other") as other:
        call(other, "init", folder, "--distribution", distribution)
    install_in(app, count)
    told = [one["what"] for one in json.loads(clinic.look("--json").stdout)["findings"] if one["code"] == "HH423"]
    assert told == ([f"{count} accounts have installed it; {count} may."] if is_told else [])


class Obliging(ManualClock):
    """A clock by which webhooks arrive while somebody sleeps."""

    def __init__(self) -> None:
        super().__init__(time.time_ns() // 1_000_000)
        self.sleeps: list[Callable[[], None]] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        for action in self.sleeps[:1]:
            self.sleeps.remove(action)
            action()


def test_it_waits_until_the_webhooks_have_come(clinic: Clinic) -> None:
    clock = Obliging()
    app = a_project_app(clinic, sees=("deletion",), clock=clock, dispatcher="inline", TESTING=True)
    began = clock.now_ms()
    given_up = clinic.look("--wait", "30")
    assert (given_up.exit_code, clock.now_ms() - began) == (0, 30_000)
    assert "HH422 warning" in given_up.stdout
    assert "Have somebody take over a conversation" in given_up.stderr

    clock.sleeps.append(lambda: arrive(app, "newMessage"))
    clock.sleeps.append(lambda: arrive(app))
    began = clock.now_ms()
    waited = clinic.look("--wait", "30")
    assert 1_000 <= clock.now_ms() - began < 5_000
    assert waited.stdout.endswith("All is well.\n"), waited.stdout
    assert clinic.look("--wait", "nan").exit_code == 2


def codes(clinic: Clinic) -> list[str]:
    return [one["code"] for one in json.loads(clinic.look("--json").stdout)["findings"]]


def test_a_worker_is_alive_until_it_ends_or_was_not_seen_for_a_minute(clinic: Clinic) -> None:
    app = clinic.open(dispatcher="external")
    runtime = state_of(app)
    assert codes(clinic) == ["HH601"]
    worker = runtime.new_dispatcher(threads=1)
    worker.ensure_started()
    wait_until(lambda: clinic.is_alive(app), what="a sign of life")
    assert codes(clinic) == []
    assert worker.stop(60)
    assert codes(clinic) == ["HH601"]
    for age, found in ((59_000, []), (61_000, ["HH601"])):
        with runtime.ledger.write() as tx:
            tx.signs.show("another-host:1:2:3", now=runtime.ledger.now_ms() - age)
        assert codes(clinic) == found


def test_cron_may_be_ten_minutes_ago(clinic: Clinic) -> None:
    app = clinic.open(dispatcher="external")
    assert app.test_cli_runner().invoke(args=["hubspot-hitl", "tick"]).exit_code == 0
    assert codes(clinic) == []
    runtime = state_of(app)
    with runtime.ledger.write() as tx:
        tx.signs.show(TICK, now=runtime.ledger.now_ms() - 601_000)
    assert codes(clinic) == ["HH601"]
    assert "The last sign of a worker is 10 min old." in clinic.look().stdout


def test_signs_of_processes_that_are_gone_are_forgotten(
    make_app: MakeApp, clock: ManualClock, database_url: str
) -> None:
    ledger = state_of(make_app(clock=clock, dispatcher="inline")).ledger
    with ledger.write() as tx:
        tx.signs.show("one", now=clock.now_ms())
        tx.signs.show("one", now=clock.now_ms() + 1)
        assert tx.signs.all() == {"one": clock.now_ms() + 1}
        tx.signs.show("two", now=clock.now_ms() + 3_700_000)
        assert tx.signs.all() == {"two": clock.now_ms() + 3_700_000}
        tx.signs.withdraw("two")
        assert tx.signs.all() == {}
        assert tx.get_meta("deployment_id") == ledger.deployment_id


# --- the self-test ---------------------------------------------------------------------------------------


def test_the_self_test_tells_nobody_anything_and_changes_nothing(make_app: MakeApp) -> None:
    app = make_app(dispatcher="inline")
    runtime = state_of(app)
    nonce = "0123456789abcdef" * 2
    assert signed_post(app, deployment.self_test_body(nonce), secret="wrong").status_code == 401
    assert app.test_client().post("/hubspot/webhook", data=deployment.self_test_body(nonce)).status_code == 401
    answer = signed_post(app, deployment.self_test_body(nonce))
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert runtime.ledger.deployment_id not in answer.text
    facts = deployment.read_self_test(runtime.settings, nonce, answer.json)
    assert facts is not None
    assert facts["deployment_id"] == runtime.ledger.deployment_id
    for other in (
        deployment.read_self_test(runtime.settings, nonce[::-1], answer.json),
        deployment.read_self_test(runtime.settings, nonce, 1),
    ):
        assert other is None
    stranger = make_app(name="other", client_secret="sim-other-secret", dispatcher="inline")
    assert deployment.read_self_test(state_of(stranger).settings, nonce, answer.json) is None
    assert _status(app)["done"] == _status(app)["pending"] == _status(app)["quarantined"] == 0


@pytest.mark.parametrize(
    "body", [b'{"type":"FLASK_HUBSPOT_HITL_SELF_TEST"}', b"x" + deployment.self_test_body("0" * 32)]
)
def test_what_only_looks_like_a_self_test_is_none(make_app: MakeApp, body: bytes) -> None:
    answer = signed_post(make_app(dispatcher="inline"), body)
    assert b"self_test" not in answer.data
    assert answer.status_code in (204, 400)


# --- fixes that work when they are followed --------------------------------------------------------------


def test_tickets_come_into_reach_as_the_fix_says(
    clinic: Clinic, make_app: MakeApp, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """By default the link does not ask for the scopes; an app that requires more than a link asks is refused."""

    def at_hubspot(*more: str) -> Json:
        scopes = [*needed(AppKind.PROJECT, creates_contacts=False), *more]
        back = [f"{app.config['HUBSPOT_HITL_PUBLIC_URL']}/hubspot/oauth/callback" for app in apps]
        own: Json = {"requiredScopes": scopes, "optionalScopes": [], "redirectUris": back}
        made: Json = clinic.hubspot.post("apps", appId="4242", portalId=PORTAL, kind="project", **own)
        return made

    def install(app: Flask) -> str:
        serve(app, target=False)
        clinic.app = app
        with contextlib.closing(Browser()) as browser:
            return said(browser.connect(clinic.run("install-url").output.strip(), PORTAL))

    def make(**config: Any) -> Flask:
        none: Json = dict.fromkeys(("refresh_token", "portal_id", "channel_id", "channel_account_id", "inbox_id"))
        credentials = {name.removeprefix("HUBSPOT_HITL_").lower(): value for name, value in env.items()}
        common: Json = {"SECRET_KEY": SECRET_KEY, "app_kind": "project", "dispatcher": "inline"}
        return make_app(**{**credentials, **none, **common, **config})

    apps: list[Flask] = []
    env = at_hubspot()
    apps.append(make())
    at_hubspot()
    assert install(apps[0]) == "HubSpot is connected"
    assert clinic.run("setup", "--inbox", HELP_DESK).exit_code == 0, "so far"
    fix = fix_of(clinic, Code.NO_TICKETS)
    assert not state_of(apps[0]).services.ticket_notes.may_be(PORTAL, HELP_DESK)
    for text in (fix, caplog.text):
        assert all(one in text for one in (*TICKET_NOTES_SCOPES, "HUBSPOT_HITL_NOTES_IN to both", "project init"))
    apps.append(make(notes_in="both"))
    at_hubspot(*TICKET_NOTES_SCOPES)
    assert install(apps[1]) == "HubSpot is connected"
    assert Code.NO_TICKETS.code not in clinic.look().stdout
    assert state_of(apps[1]).services.ticket_notes.may_be(PORTAL, HELP_DESK)


def fix_of(clinic: Clinic, code: Code) -> str:
    [found] = [one for one in json.loads(clinic.look("--json").stdout)["findings"] if one["code"] == code.code]
    return str(found["fix"])


@pytest.mark.parametrize(
    ("code", "break_it"),
    [(Code.CHANNEL_URL, a_channel_that_leads_elsewhere), (Code.TARGET_URL, a_target_elsewhere)],
    ids=["channel", "target"],
)
def test_an_old_address_is_taken_over_as_the_fix_says(
    clinic: Clinic, code: Code, break_it: Callable[[Clinic], None]
) -> None:
    break_it(clinic)
    told = re.search(r"run: flask hubspot-hitl (setup --take-over)\.", fix_of(clinic, code))
    assert told is not None
    done = clinic.run(*told[1].split())
    assert done.exit_code == 0, done.output
    assert code.code not in clinic.look().stdout


@pytest.mark.parametrize(
    "place", ["https://bot.example/login?next=/", "/oauth2/start", "https://acme.cloudflareaccess.com/cdn-cgi/access/x"]
)
def test_a_redirect_to_a_log_in_is_told_as_such(clinic: Clinic, place: str) -> None:
    clinic.behind(lambda request: Response(status=302, headers={"Location": place}))
    fix = fix_of(clinic, Code.URL_REDIRECTS)
    assert "Let POST /hubspot/webhook through" in fix
    assert "HUBSPOT_HITL_PUBLIC_URL" not in fix, "that address would be wrong"


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        ("the database file /d/x can't be made or opened: Permission denied", "chown"),
        ("the database can't be used: its role lacks a privilege: GRANT it CREATE on the schema", "GRANT"),
        ("the database can't be used: the disk is full; make room, a restart is not needed (SQLITE_FULL)", "Make room"),
        ("the database can't be used just now: nobody listens there", "that the server runs"),
    ],
)
def test_the_fix_for_a_database_is_that_of_its_trouble(error: str, wanted: str) -> None:
    assert wanted in unavailable(LedgerUnavailable(error)).fix


def test_a_full_disk_is_told_apart_from_one_that_is_read_only() -> None:
    full = LedgerUnavailable("the database can't be used: the disk is full; make room (SQLITE_FULL)")
    assert "Make room" in unavailable(full, Code.READ_ONLY).fix


def test_a_server_without_settings_is_told_as_such(clinic: Clinic) -> None:
    """Gunicorn reads no ``.env``: the app there is the same, and runs without live agents."""
    off = Flask("off")
    HubSpotHITL(off)
    clinic.behind(lambda request: off.test_client().post("/hubspot/webhook"))
    assert "servers such as gunicorn do not" in fix_of(clinic, Code.URL_TROUBLE)
    assert "database" not in clinic.look().stdout.partition("Looked at")[0]
