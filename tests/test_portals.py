"""Many portals, one app: whose tokens, whose events, whose trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, NotConfigured, TokenRevoked, WrongPortal
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.hubspot.oauth import Tokens
from flask_hubspot_hitl.ledger import AccountRecord, ChannelRecord, Installation, InstallationState, schema
from flask_hubspot_hitl.ledger.crypto import Cipher
from flask_hubspot_hitl.portals import installations, routing
from flask_hubspot_hitl.portals.tokens import encrypted

from .browser import Browser, said
from .conftest import MakeApp, Record, Serve
from .helpers import (
    APP,
    CHANNEL,
    PORTAL,
    HubSpot,
    Json,
    Recorder,
    assigned_event,
    channel_event,
    new_message_event,
    signed_post,
    state_of,
    status_event,
    wait_until,
)
from .story import PHONE, Story

NO_TOKEN: dict[str, Any] = dict.fromkeys(("refresh_token", "portal_id", "channel_account_id", "inbox_id"))
RecordSignals = Callable[[Flask], Recorder]


class Portal:
    """A portal at HubSpot, with an inbox in which our channel has an account."""

    def __init__(self, hubspot: HubSpot, portal_id: str) -> None:
        env = hubspot.control("POST", "apps", {"appId": APP, "portalId": portal_id})
        self.id, self.inbox = portal_id, env["HUBSPOT_HITL_INBOX_ID"]
        self._hubspot = hubspot
        made = self._call(
            "POST",
            f"/conversations/v3/custom-channels/{CHANNEL}/channel-accounts",
            json={
                "inboxId": self.inbox,
                "name": "Acme",
                "authorized": True,
                "deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": f"acme-{portal_id}"},
            },
        )
        self.account: str = made.json()["id"]
        hubspot.contact(portalId=portal_id, phone=PHONE, firstname="Rosa")

    def _call(self, method: str, path: str, **more: Any) -> requests.Response:
        token = self._hubspot.control("GET", f"access-token?portalId={self.id}")["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        answer = requests.request(method, f"{self._hubspot.url}{path}", headers=headers, timeout=30, **more)
        answer.raise_for_status()
        return answer

    def uninstall(self) -> None:
        """Remove the app, as an admin of the portal does."""
        self._call("DELETE", "/appinstalls/v3/external-install")

    def store(self, app: Flask, **more: Any) -> None:
        """What ``setup`` will store of it."""
        ledger = state_of(app).ledger
        record = AccountRecord(
            portal_id=self.id, account_id=self.account, channel_id=CHANNEL, inbox_id=self.inbox, **more
        )
        with ledger.write() as tx:
            tx.channels.save_account(record, now=ledger.now_ms())


def put_tokens(app: Flask, portal_id: str, **more: Any) -> None:
    """Tokens as an installation stores them, without HubSpot."""
    state = state_of(app)
    cipher = state.services.cipher()
    assert cipher is not None
    values = {"access_token": f"access-{portal_id}", "refresh_token": f"refresh-{portal_id}"}
    end = state.ledger.now_ms() + 1_800_000
    tokens = Tokens(**{**values, "expires_at_ms": end, "renew_at_ms": end - 300_000, **more})
    with state.ledger.write() as tx:
        installations.installed(
            tx, portal_id, encrypted(cipher, portal_id, tokens), scopes=("oauth",), now=state.ledger.now_ms()
        )


def installation(app: Flask, portal_id: str = PORTAL) -> Installation:
    with state_of(app).ledger.read() as tx:
        found = tx.installations.get(portal_id)
    assert found is not None
    return found


def start(app: Flask, conversation_id: str = "c1", **fields: Any) -> Any:
    with app.app_context():
        return HubSpotHITL().start(conversation_id, **{"contact": PHONE, "name": "Rosa", **fields})


def send(app: Flask, text: str, conversation_id: str = "c1") -> bool:
    with app.app_context():
        return HubSpotHITL().send(conversation_id, text)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with closing(Browser()) as opened:
        yield opened


# --- which portal, which inbox ---------------------------------------------------------------------------


def test_start_goes_to_the_portal_that_is_named_or_the_only_one(
    make_app: MakeApp, hubspot: HubSpot, database_url: str
) -> None:
    app = make_app(dispatcher="inline", SECRET_KEY="s", **NO_TOKEN)
    with pytest.raises(NotConfigured, match="no portal is installed"):
        start(app)
    one, other = Portal(hubspot, "525252"), Portal(hubspot, "626262")
    tokens = {p.id: hubspot.control("GET", f"access-token?portalId={p.id}")["access_token"] for p in (one, other)}
    put_tokens(app, one.id, access_token=tokens[one.id])
    with pytest.raises(NotConfigured, match="portal 525252 has no default inbox"):
        start(app)
    one.store(app)
    handoff = start(app, "c1")
    assert (handoff.portal_id, handoff.inbox_id, handoff.state) == (one.id, one.inbox, "waiting")
    assert hubspot.thread(handoff.thread_id)["portalId"] == one.id
    put_tokens(app, other.id, access_token=tokens[other.id])
    with pytest.raises(NotConfigured, match="2 portals are installed: say which"):
        start(app, "c2")
    second = start(app, "c2", portal_id=other.id, inbox_id=other.inbox)
    assert hubspot.thread(second.thread_id)["portalId"] == other.id, "HubSpot was asked for the inbox's account"
    with pytest.raises(NotConfigured, match="no token for portal 737373"):
        start(app, "c3", portal_id="737373", inbox_id="1")
    assert [found["portalId"] for found in hubspot.threads()] == [one.id, other.id]


def test_an_account_that_removed_the_app_is_no_choice_beside_one_that_has_it(
    make_app: MakeApp, hubspot: HubSpot, database_url: str
) -> None:
    """The wrong account was connected first, and the app removed there."""
    app = make_app(dispatcher="inline", SECRET_KEY="s", **NO_TOKEN)
    state = state_of(app)

    def default() -> str:
        with state.ledger.read() as tx:
            return routing.default_portal(tx, state.settings)

    def connect(portal: Portal) -> None:
        put_tokens(app, portal.id, access_token=hubspot.get(f"access-token?portalId={portal.id}")["access_token"])
        portal.store(app)

    def remove(portal: Portal) -> None:
        portal.uninstall()
        with pytest.raises(TokenRevoked):
            state.services.client(portal.id).inboxes()

    def setup() -> str:
        return app.test_cli_runner().invoke(args=["hubspot-hitl", "setup", "--plan"]).output

    wrong, right = Portal(hubspot, "525252"), Portal(hubspot, "626262")
    connect(wrong)
    remove(wrong)
    assert default() == wrong.id, "its queue waits"
    connect(right)
    assert default() == start(app).portal_id == right.id
    assert "Say which portal" not in setup()
    remove(right)
    with pytest.raises(NotConfigured, match="2 portals are installed: say which"):
        default()
    assert f"Say which portal, with --portal: {wrong.id}, {right.id}." in setup()


def test_each_portal_has_an_inbox_of_its_own(make_app: MakeApp, database_url: str) -> None:
    app = make_app(SECRET_KEY="s", portal_id="1", inbox_id="11,12", channel_account_id="111")
    settings, ledger = state_of(app).settings, state_of(app).ledger

    def account(portal: str, account: str, inbox: str, **more: Any) -> None:
        record = AccountRecord(portal_id=portal, account_id=account, channel_id=CHANNEL, inbox_id=inbox, **more)
        with ledger.write() as tx:
            tx.channels.save_account(record, now=1)

    def chosen(portal: str, inbox_id: str | None = None) -> tuple[str | None, str | None]:
        with ledger.read() as tx:
            default = routing.default_inbox(tx, settings, portal)
            inbox = inbox_id or default
            is_default = inbox_id is None or inbox_id == default
            return inbox, routing.account_of(tx, settings, portal, CHANNEL, inbox, is_default=is_default)

    assert chosen("1") == ("11", "111")
    assert chosen("1", "12") == ("12", None)
    account("1", "112", "12")
    assert chosen("1", "12") == ("12", "112")
    assert chosen("2") == (None, None)
    account("2", "9", "21")
    account("2", "10", "21")
    assert chosen("2") == ("21", "9"), "the only inbox, and its oldest account"
    account("2", "9", "21", authorized=False)
    assert chosen("2") == ("21", "10")
    account("2", "22", "22")
    assert chosen("2") == (None, None), "two inboxes: nobody guesses"
    with ledger.write() as tx:
        tx.installations.set_inbox("2", "22")
    assert chosen("2") == ("22", "22")
    assert chosen("2", "21") == ("21", "10")
    assert chosen("1", "22") == ("22", None), "an account of another portal is none"
    with ledger.write() as tx:
        tx.channels.forget_account("2", "22")
        assert tx.channels.account("2", "22") is None
        assert [one.account_id for one in tx.channels.accounts()] == ["112", "9", "10"]
    assert chosen("2") == ("22", None)


def test_the_channel_is_the_apps(make_app: MakeApp, database_url: str) -> None:
    app = make_app(SECRET_KEY="s", channel_id=None, app_id="1")
    settings, ledger = state_of(app).settings, state_of(app).ledger
    with ledger.write() as tx:
        assert routing.channel_of(tx, settings) is None
        tx.channels.save(ChannelRecord(app_id="2", channel_id="200"), now=1)
        assert routing.channel_of(tx, settings) is None
        tx.channels.save(ChannelRecord(app_id="1", channel_id="100", webhook_url="https://a.example"), now=1)
        tx.channels.save(ChannelRecord(app_id="1", channel_id="101", webhook_url="https://b.example"), now=2)
        assert routing.channel_of(tx, settings) == "101"
        assert tx.channels.get("1") == ChannelRecord(app_id="1", channel_id="101", webhook_url="https://b.example")
        assert tx.channels.get(None) is None, "two apps: nobody guesses"
        tx.channels.forget("2")
        assert tx.channels.get(None) == tx.channels.get("1")
    with pytest.raises(NotConfigured, match="CHANNEL_ID is missing"):
        start(make_app(SECRET_KEY="s", channel_id=None, app_id="2"))


# --- revoked, and back -----------------------------------------------------------------------------------


def test_a_dead_token_marks_its_portal_once_and_its_queue_waits(
    make_app: MakeApp, hubspot: HubSpot, database_url: str, clock: ManualClock, record: RecordSignals
) -> None:
    portal = Portal(hubspot, "525252")
    config = {**NO_TOKEN, "public_url": "http://127.0.0.1:9", "dispatcher": "inline", "SECRET_KEY": "s"}
    apps = [make_app(clock=clock, **config) for _ in range(2)]
    app = apps[0]
    token = hubspot.control("GET", f"access-token?portalId={portal.id}")["access_token"]
    put_tokens(app, portal.id, access_token=token)
    portal.store(app)
    state_of(app).dispatcher.run_due()
    seen = [record(one) for one in apps]
    handoff = start(app)
    portal.uninstall()
    assert send(app, "one")
    assert send(app, "two")
    for one in apps * 2:
        clock.advance(400)
        state_of(one).dispatcher.run_due()
        with pytest.raises(TokenRevoked):
            state_of(one).services.client(portal.id).inboxes()
    assert [one.of("installation_revoked") for one in seen].count([{"portal_id": portal.id}]) == 1
    assert [one.of("installation_revoked") for one in seen].count([]) == 1
    assert installation(app, portal.id).state == InstallationState.REVOKED
    assert installation(app, portal.id).revoked_at is not None
    assert installation(app, portal.id).secret is not None, "what can't be used is not deleted"
    with app.app_context():
        assert HubSpotHITL().is_active("c1")
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", "installations"])
    assert f"{portal.id}  revoked" in result.output

    asked = [one["path"] for one in hubspot.requests()]
    assert len([path for path in asked if path.endswith("/token")]) <= 6, "about once a minute in each process"
    hubspot.control("POST", "apps", {"appId": APP, "portalId": portal.id})
    token = hubspot.control("GET", f"access-token?portalId={portal.id}")["access_token"]
    put_tokens(apps[1], portal.id, access_token=token)
    state_of(app).dispatcher.run_due()
    texts = [one["text"] for one in hubspot.thread(handoff.thread_id)["messages"]][1:]
    assert texts == ["one", "two"], "both processes' clients take up the new token at once"
    assert len([one for seen_by in seen for one in seen_by.of("installation_added")]) == 1
    for one in apps:
        state_of(one).services.client(portal.id).inboxes()


def test_a_mistyped_client_secret_revokes_nobody(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    app = make_app(clock=clock, dispatcher="inline", SECRET_KEY="s", client_secret="sim-mistyped")
    seen = record(app)
    with pytest.raises(Exception, match="CLIENT_SECRET") as raised:
        state_of(app).services.client(PORTAL).inboxes()
    assert not isinstance(raised.value, TokenRevoked)
    state_of(app).dispatcher.run_due()
    assert seen.names() == []
    assert installation(app).state == InstallationState.ACTIVE


def test_a_configured_refresh_token_is_marked_too(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    config: Json = {"dispatcher": "inline", "SECRET_KEY": "s", "public_url": "http://127.0.0.1:9"}
    app = make_app(clock=clock, refresh_token="sim-dead", **config)
    seen = record(app)
    for _ in range(3):
        clock.advance(61)
        with pytest.raises(TokenRevoked):
            state_of(app).services.client(PORTAL).inboxes()
    state_of(app).dispatcher.run_due()
    assert seen.of("installation_revoked") == [{"portal_id": PORTAL}]
    mended = make_app(clock=clock, **config)
    seen = record(mended)
    state_of(mended).services.client(PORTAL).inboxes()
    state_of(mended).dispatcher.run_due()
    assert seen.of("installation_added") == [{"portal_id": PORTAL}]
    assert installation(app).state == InstallationState.ACTIVE


def test_a_configured_access_token_is_told_of_once(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    config: Json = {"refresh_token": None, "access_token": "sim-dead", "public_url": "http://127.0.0.1:9"}
    for count in (1, 0):
        app = make_app(clock=clock, dispatcher="inline", **config)
        seen = record(app)
        for _ in range(2):
            with pytest.raises(TokenRevoked):
                state_of(app).services.client(PORTAL).inboxes()
        state_of(app).dispatcher.run_due()
        assert seen.of("installation_revoked") == [{"portal_id": PORTAL}] * count


def test_an_installation_goes_before_a_configured_token(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock
) -> None:
    app = make_app(clock=clock, dispatcher="inline", SECRET_KEY="s", refresh_token="sim-dead")
    token = hubspot.control("GET", "access-token")["access_token"]
    put_tokens(app, PORTAL, access_token=token, refresh_token="sim-refresh-0001")
    state_of(app).services.client(PORTAL).inboxes()
    clock.advance(3600)
    state_of(app).services.client(PORTAL).inboxes()
    assert {one["status"] for one in hubspot.requests()} == {200}


# --- at rest ---------------------------------------------------------------------------------------------


def test_rekey(make_app: MakeApp, hubspot: HubSpot, database_url: str) -> None:
    old = make_app(SECRET_KEY="old")
    for portal_id in ("1", "2"):
        put_tokens(old, portal_id)
    key = Fernet.generate_key().decode()
    app = make_app(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"], encryption_key=key)
    put_tokens(make_app(SECRET_KEY="lost"), "3")
    before = installation(app, "3")
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", "rekey"])
    assert result.exit_code == 1
    assert "2 portals encrypted" in result.output
    assert "left as they are: 3." in result.output
    assert installation(app, "3") == before
    only = Cipher([key], [])
    for portal_id in ("1", "2"):
        secret = installation(app, portal_id).secret
        assert secret is not None
        assert only.decrypt(portal_id, secret)["refresh_token"] == f"refresh-{portal_id}"
    assert make_app(SECRET_KEY=None).test_cli_runner().invoke(args=["hubspot-hitl", "rekey"]).exit_code == 1


def test_tokens_that_cannot_be_read_are_an_outage_until_the_portal_comes_again(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    put_tokens(make_app(clock=clock, SECRET_KEY="old"), PORTAL)
    app = make_app(clock=clock, SECRET_KEY="new", **NO_TOKEN)
    for _ in range(2):
        with pytest.raises(Exception, match="can't be read") as raised:
            state_of(app).services.client(PORTAL).inboxes()
        assert not isinstance(raised.value, TokenRevoked)
    assert caplog.text.count("can't be read") == 1
    assert installation(app).state == InstallationState.ACTIVE
    put_tokens(app, PORTAL, access_token=hubspot.control("GET", "access-token")["access_token"])
    state_of(app).services.client(PORTAL).inboxes()


def test_migrate_tells_what_there_was_to_do(make_app: MakeApp) -> None:
    result = make_app().test_cli_runner().invoke(args=["hubspot-hitl", "migrate"])
    assert result.output == f"The database has schema {schema.VERSION}; nothing to do.\n"


# --- under load ------------------------------------------------------------------------------------------


def forged(victim: Portal, threads: list[str], other: Portal, *, at: int) -> list[Any]:
    """What a portal might be made to send: its own number, with threads, channel and accounts of another."""
    bodies: list[Any] = []
    for number, thread in enumerate(threads):
        portal: Json = {"portalId": int(other.id)}
        bodies.append(
            [
                status_event("CLOSED", at=at + number, thread=thread, **portal),
                assigned_event("A-666", at=at + number, thread=thread, **portal),
                new_message_event(f"forged-{number}", at=at + number, thread=thread, **portal),
            ]
        )
        for account in (victim.account, other.account):
            message = channel_event(
                f"forged-{number}-{account}", text="forged", thread=thread, channelAccountId=account
            )
            bodies.append({**message, "portalId": other.id})
    for portal_id, account in ((other.id, victim.account), (victim.id, victim.account), (victim.id, other.account)):
        purged = {"type": "CHANNEL_ACCOUNT_PURGED", "channelId": CHANNEL, "eventTimestamp": "2026-10-01T09:30:00Z"}
        bodies.append({**purged, "portalId": portal_id, "channelAccountId": account})
    return bodies


def test_three_portals_under_load_do_not_touch_each_other(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser, record: RecordSignals
) -> None:
    there = [Portal(hubspot, number) for number in ("525252", "626262", "727272")]
    gone = there[1]
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", rate_limit="1000", **NO_TOKEN)
    url = serve(app)
    seen = record(app)
    for portal in there:
        portal.store(app)
        assert said(browser.connect(f"{url}/hubspot/oauth/install", portal.id)) == "HubSpot is connected"
    seen.wait_for("installation_added", 3)
    chats = {f"{portal.id}-{number}": portal for portal in there for number in range(3)}
    threads = {name: start(app, name, portal_id=portal.id).thread_id for name, portal in chats.items()}
    assert None not in threads.values()
    of_portal = {portal.id: [threads[name] for name in chats if chats[name] is portal] for portal in there}
    sent: dict[str, list[str]] = {name: [] for name in chats}
    written: dict[str, list[str]] = {name: [] for name in chats}

    def talk(portal: Portal, words: range, *, with_agent: bool) -> None:
        for word in words:
            for name in (one for one in chats if chats[one] is portal):
                assert send(app, f"user {word}", name)
                sent[name].append(f"user {word}")
                if with_agent:
                    hubspot.act(threads[name], "reply", text=f"agent {word}")
                    written[name].append(f"agent {word}")

    def forge() -> None:
        at = state_of(app).ledger.now_ms()
        client = app.test_client()
        for victim in there:
            for other in (one for one in there if one is not victim):
                for body in forged(victim, of_portal[victim.id], other, at=at):
                    assert signed_post(client, body).status_code == 204

    def together(*jobs: Callable[[], None]) -> None:
        failed: list[BaseException] = []

        def run(job: Callable[[], None]) -> None:
            try:
                job()
            except BaseException as error:
                failed.append(error)

        workers = [threading.Thread(target=run, args=[job]) for job in jobs]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not failed, failed

    def arrived(name: str) -> list[str]:
        return [
            one["text"]
            for one in hubspot.thread(threads[name])["messages"]
            if one["type"] == "MESSAGE" and one["direction"] == "INCOMING"
        ][1:]

    def heard(name: str) -> list[str]:
        return [one["message"].text for one in seen.of("operator_message") if one["handoff"].conversation_id == name]

    def all_is_there(name: str) -> None:
        wait_until(lambda: arrived(name) == sent[name], 60, f"what the user of {name} wrote")
        wait_until(lambda: sorted(heard(name)) == sorted(written[name]), 60, f"the answers to {name}")

    together(*[partial(talk, one, range(4), with_agent=True) for one in there], forge)
    for name in chats:
        all_is_there(name)

    gone.uninstall()
    together(*[partial(talk, one, range(4, 8), with_agent=one is not gone) for one in there], forge)
    assert seen.wait_for("installation_revoked", 1) == [{"portal_id": gone.id}]
    for name in chats:
        if chats[name] is not gone:
            all_is_there(name)
        else:
            assert arrived(name) == sent[name][:4]
            hubspot.act(threads[name], "reply", text="agent, while nobody listens")
            written[name].append("agent, while nobody listens")
    states = {portal.id: installation(app, portal.id).state.value for portal in there}
    assert states == {one.id: "revoked" if one is gone else "active" for one in there}

    assert said(browser.connect(f"{url}/hubspot/oauth/install?portal_id={gone.id}", gone.id)) == "HubSpot is connected"
    for name in chats:
        all_is_there(name)
    assert seen.of("installation_added")[-1] == {"portal_id": gone.id}
    assert len(seen.of("installation_added")) == 4
    assert len(seen.of("installation_revoked")) == 1
    assert not seen.of("conversation_completed"), "no forged close was believed, and no forged purge"
    with state_of(app).ledger.read() as tx:
        assert [one.account_id for one in tx.channels.accounts()] == [portal.account for portal in there]
    assert not [one for one in seen.of("operator_assigned") if one["operator"].actor_id == "A-666"]
    assert not [one for one in seen.of("operator_message") if one["message"].text == "forged"]


@pytest.mark.parametrize("kind", ["refresh_token", "access_token", "v1"])
def test_a_portal_id_with_a_typing_error_is_refused_at_the_token(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, kind: str
) -> None:
    """Its agents would be asked, and what they answer would come for a portal that we don't know."""
    token = hubspot.get("access-token")["access_token"]
    own: dict[str, Any] = {"refresh_token": None, "access_token": token} if kind == "access_token" else {}
    if kind == "v1":  # its answers do not say whose the token is
        hubspot.chaos(lean_v1_tokens=True)
        own = {"oauth_version": "v1"}
    own |= {"clock": clock, "dispatcher": "inline", "SECRET_KEY": "a key", "public_url": "http://127.0.0.1:5000"}
    app = make_app(portal_id="424243", **own)
    story = Story(app, hubspot, clock, record(app))
    with pytest.raises(WrongPortal) as raised:
        story.start()
    assert str(raised.value) == (
        "HUBSPOT_HITL_PORTAL_ID is 424243, but the configured token is portal 424242's: correct the one or the other"
    )
    assert not story.is_active()
    assert hubspot.threads() == []
    right = make_app(**own)
    assert Story(right, hubspot, clock, record(right)).start().thread_id is not None


def test_a_portal_id_of_start_with_a_typing_error_is_told_at_once(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    for configured in ("424242", None):
        app = make_app(clock=clock, dispatcher="inline", portal_id=configured, SECRET_KEY="a key", refresh_token=None)
        story = Story(app, hubspot, clock, record(app))
        with pytest.raises(NotConfigured, match="424243"):
            story.start(portal_id="424243", inbox_id="700200300")
        assert not story.is_active()
        result = app.test_cli_runner().invoke(args=["hubspot-hitl", "inboxes", "--portal", "424243"])
        assert (result.exit_code, "424243" in result.output) == (1, True)
