"""HubSpot's journal: who installs and removes the app is told once each, whatever the journal and we do meanwhile.

Rules F1 to F6. The app and the stand-in are real, and so are installing and removing; only the clocks are the test's.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.errors import ConfigError
from flask_hubspot_hitl.handoffs.journal import IN_A_ROW, REFUSED_MS, TRIES
from flask_hubspot_hitl.hubspot.journal import INSTALLED, OAUTH_VERSION, REMOVED, SCOPES, Entry, Unreadable
from flask_hubspot_hitl.ledger import InstallationState
from flask_hubspot_hitl.portals import journal

from .browser import Browser, said
from .conftest import MakeApp, Record, Serve
from .helpers import PORTAL, HubSpot, Json, state_of, wait_until

DAY = 86_400
ONE, OTHER = "616161", "525252"
NO_PORTAL: dict[str, Any] = dict.fromkeys(("refresh_token", "portal_id", "channel_account_id", "inbox_id"))
NO_SECRETS: dict[str, Any] = NO_PORTAL | {"developer_api_key": None}
GONE = (404, 400, 410, 204)
"""What HubSpot may answer to an offset that is gone: nobody knows."""


class Host:
    """An app that reads the journal, and what people do at HubSpot. Its clock stands still until it looks."""

    def __init__(self, app: Flask, url: str, hubspot: HubSpot, clock: ManualClock, record: Record, browser: Browser):
        self.app, self.url, self.hubspot, self.clock, self.browser = app, url, hubspot, clock, browser
        self.state = state_of(app)
        self.seen = record(app)
        for action in (INSTALLED, REMOVED):
            self.state.services.journal().subscribe(action)
        self.begin()

    def begin(self) -> None:
        """What a dispatcher does at its start."""
        with self.state.ledger.write() as tx:
            journal.schedule(tx, now=self.clock.now_ms())

    def look(self, seconds: float = journal.EVERY_MS / 1000) -> None:
        """Let time go by, and do what is due."""
        self.clock.advance(seconds)
        self.state.dispatcher.run_due()

    def down(self, days: float) -> None:
        """Nothing of ours runs for so long."""
        self.clock.advance(days * DAY)
        self.hubspot.post("journal/pass", seconds=int(days * DAY))

    def install(self, portal_id: str = ONE) -> None:
        """Somebody installs the app, through our own page."""
        page = self.browser.connect(f"{self.url}/hubspot/oauth/install?portal_id={portal_id}", portal_id)
        assert said(page) == "HubSpot is connected"

    def remove(self, portal_id: str = ONE) -> None:
        """An admin removes the app, at HubSpot."""
        self.hubspot.post("uninstall", portalId=portal_id)

    def told(self) -> list[str]:
        """What receivers were told of portals, in order."""
        names = {"installation_added": "+", "installation_revoked": "-"}
        return [f"{names[name]}{facts['portal_id']}" for name, facts in self.seen.calls if name in names]

    def place(self) -> journal.Place:
        with self.state.ledger.read() as tx:
            return journal.load(tx)

    def is_active(self, portal_id: str = ONE) -> bool:
        with self.state.ledger.read() as tx:
            found = tx.installations.get(portal_id)
        return found is not None and found.state is InstallationState.ACTIVE

    def asked(self, path: str) -> list[Json]:
        """The calls of a path that ends so."""
        return [one for one in self.hubspot.requests() if one["path"].endswith(path)]

    def settle(self) -> None:
        """Look until nothing is left that was asked for, or is to be asked again."""
        for seconds in (20, 20, 60, 300, 20):
            self.look(seconds)


@pytest.fixture
def host(make_app: MakeApp, serve: Serve, hubspot: HubSpot, clock: ManualClock, record: Record) -> Iterator[Host]:
    """An app without a portal of its own, and two portals without the app."""
    for portal_id in (ONE, OTHER):
        hubspot.control("POST", "apps", {"appId": "3131", "portalId": portal_id})
        hubspot.post("uninstall", portalId=portal_id)
    app = make_app(
        clock=clock, dispatcher="inline", journal="on", SECRET_KEY="s", may_install=lambda portal_id: True, **NO_PORTAL
    )
    with closing(Browser()) as browser:
        yield Host(app, serve(app, target=False), hubspot, clock, record, browser)


# --- what must be told, once -----------------------------------------------------------------------------


def test_an_install_and_its_word_in_the_journal_are_one(host: Host) -> None:
    """Rule F3."""
    host.install()
    assert [one["events"][0]["action"] for one in host.hubspot.get("journal")] == [INSTALLED]
    host.settle()
    assert host.told() == [f"+{ONE}"]
    assert host.place().offset == host.hubspot.get("journal")[-1]["offset"]


def test_a_removed_app_is_told_within_a_minute(host: Host) -> None:
    """Rules F1, F2."""
    host.install()
    host.install(OTHER)
    host.look()
    host.remove(OTHER)
    for _ in range(3):
        host.look()
    assert host.told() == [f"+{ONE}", f"+{OTHER}", f"-{OTHER}"]
    host.settle()
    assert host.told() == [f"+{ONE}", f"+{OTHER}", f"-{OTHER}"]
    assert host.is_active()
    assert not host.is_active(OTHER)


@pytest.mark.parametrize(("days", "gone"), [(2, 404), *((4, gone) for gone in GONE)])
def test_an_app_that_was_removed_while_we_were_down_is_told_once(host: Host, days: int, gone: int) -> None:
    """Rules F1, F4: with four days the journal has lost both the event and our place in it."""
    host.hubspot.chaos(journal_gone=gone)
    host.install()
    host.install(OTHER)
    host.settle()
    host.remove()
    host.down(days)
    assert all(one["kept"] for one in host.hubspot.get("journal")) == (days == 2)
    host.settle()
    assert host.told() == [f"+{ONE}", f"+{OTHER}", f"-{ONE}"]
    assert host.is_active(OTHER)
    host.remove(OTHER)  # and it goes on from there
    host.settle()
    assert host.told()[3:] == [f"-{OTHER}"]


def test_down_for_days_on_both_databases(host: Host, database_url: str) -> None:
    """Rules F1, F3, F4."""
    host.install()
    host.install(OTHER)
    host.settle()
    for days, portal_id in ((2, ONE), (4, OTHER)):
        host.remove(portal_id)
        host.down(days)
        host.settle()
    assert host.told() == [f"+{ONE}", f"+{OTHER}", f"-{ONE}", f"-{OTHER}"]


@pytest.mark.parametrize("gone", GONE)
def test_a_journal_in_which_nothing_happens_for_days_is_heard_again(host: Host, gone: int) -> None:
    """Rule F4: our place is as old as the newest event, and that may be gone although we have looked all the time."""
    host.hubspot.chaos(journal_gone=gone)
    host.install()
    host.settle()
    for _ in range(16):
        host.down(0.25)
        host.look()
    asked = len(host.asked("/token"))
    host.remove()
    host.settle()
    assert host.told() == [f"+{ONE}", f"-{ONE}"]
    assert len(host.asked("/token")) > asked


def test_removed_and_installed_again_before_we_look(host: Host) -> None:
    """Rule F2: what the token shows counts, and not the last word that we come to read."""
    host.install()
    host.look()
    host.remove()
    host.install()
    host.settle()
    assert host.told() == [f"+{ONE}", f"+{ONE}"], "of the second the callback has told"
    assert host.is_active()
    host.remove()
    host.settle()
    host.install()
    host.settle()
    assert host.told()[2:] == [f"-{ONE}", f"+{ONE}"]
    assert host.is_active()


def test_a_portal_without_tokens_of_ours_is_none(host: Host) -> None:
    """Rule F3: somebody else's deployment of the same app has it."""
    for action in (INSTALLED, REMOVED):
        event = {"type": "app_lifecycle_event", "action": action, "portalId": 777, "occurredAt": 1, "properties": {}}
        host.hubspot.post("journal/events", events=[event])
    host.settle()
    assert host.told() == []
    assert host.asked("/details") == []


def test_what_is_about_other_apps_and_other_things_is_passed_over(host: Host) -> None:
    """Rule F3."""
    host.install()
    host.settle()
    asked = len(host.asked("/details"))
    told = {"type": "app_lifecycle_event", "action": REMOVED, "portalId": int(ONE), "occurredAt": 5}
    host.hubspot.post("journal/events", events=[{**told, "appId": 999}])
    host.hubspot.post("journal/events", events=[{"type": "object", "action": "CREATE", "portalId": int(ONE)}])
    host.settle()
    assert host.told() == [f"+{ONE}"]
    assert len(host.asked("/details")) == asked


def test_a_configured_portal_hears_of_no_other(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    """Rule F3; its token is in the settings, and is asked all the same."""
    hubspot.control("POST", "apps", {"appId": "3131", "portalId": OTHER})
    app = make_app(clock=clock, dispatcher="inline", journal="on", SECRET_KEY="s")
    with closing(Browser()) as browser:
        host = Host(app, serve(app, target=False), hubspot, clock, record, browser)
        host.settle()
        host.remove(OTHER)
        host.settle()
        assert host.told() == []
        host.remove(PORTAL)
        host.settle()
        host.settle()
        assert host.told() == [f"-{PORTAL}"]


def test_repeats_are_told_once(host: Host) -> None:
    """Rule F1."""
    host.hubspot.chaos(journal_repeats=2)
    host.install()
    host.settle()
    host.remove()
    host.settle()
    host.hubspot.post("journal/repeat")
    host.settle()
    assert len(host.hubspot.get("journal")) == 7
    assert host.told() == [f"+{ONE}", f"-{ONE}"]


def test_a_word_that_comes_again_later_is_believed_no_more(host: Host) -> None:
    """Rules F1, F2: of an app that has been installed again since."""
    host.install()
    host.settle()
    host.remove()
    host.settle()
    host.install()
    removed = next(one for one in host.hubspot.get("journal") if one["events"][0]["action"] == REMOVED)
    again = [{**removed["events"][0], "occurredAt": removed["events"][0]["occurredAt"] + 1}]
    host.hubspot.post("journal/events", events=again)
    host.settle()
    assert host.told() == [f"+{ONE}", f"-{ONE}", f"+{ONE}"]
    assert host.is_active()


@pytest.mark.parametrize("gone", GONE[:3])
def test_what_the_journal_loses_is_told_all_the_same(host: Host, gone: int) -> None:
    """Rule F4: with the file our place is gone."""
    host.hubspot.chaos(journal_gone=gone)
    host.install(OTHER)
    host.install()
    host.settle()
    host.hubspot.post("journal/gap")
    host.remove()
    host.hubspot.post("journal/gap")
    host.settle()
    assert host.told() == [f"+{OTHER}", f"+{ONE}", f"-{ONE}"]
    assert host.is_active(OTHER)


def test_a_first_look_asks_every_portal(host: Host) -> None:
    """Rule F4: the switch may be turned on long after an app was removed."""
    host.install()
    host.remove()
    host.hubspot.post("journal/gap")
    host.settle()
    assert host.told() == [f"+{ONE}", f"-{ONE}"]


def test_a_portal_that_has_come_back_is_told_of(host: Host) -> None:
    """Rules F2, F3: its token works again, and no page of ours was in between."""
    host.install()
    host.settle()
    host.hubspot.chaos(revoked=True)
    told = {"type": "app_lifecycle_event", "action": REMOVED, "portalId": int(ONE), "occurredAt": 5}
    host.hubspot.post("journal/events", events=[told])
    host.settle()
    host.hubspot.chaos(revoked=False)
    host.hubspot.post("journal/events", events=[{**told, "action": INSTALLED, "occurredAt": 6}])
    host.settle()
    assert host.told() == [f"+{ONE}", f"-{ONE}", f"+{ONE}"]
    assert host.is_active()


def test_a_journal_that_loses_our_place_again_and_again_has_not_all_asked_each_time(host: Host) -> None:
    """Rule F4."""
    host.install()
    host.settle()
    before = len(host.asked("/details"))
    fault = {"match": "/offset/.*/next$", "mode": "status", "status": 410}
    host.hubspot.chaos(faults=[fault])
    for _ in range(30):
        host.look()
    looks = [one for one in host.hubspot.requests() if one["path"].endswith(("/next", "/earliest"))]
    assert len(looks) < 100
    assert 2 <= len(host.asked("/details")) - before <= 6, "two calls each time, in ten minutes"
    assert host.told() == [f"+{ONE}"]


def test_hubspot_may_be_slow_to_end_tokens(host: Host) -> None:
    """Rule F2: a token that works still is asked again."""
    host.install()
    host.settle()
    told = {"type": "app_lifecycle_event", "action": REMOVED, "portalId": int(ONE), "occurredAt": 5}
    host.hubspot.post("journal/events", events=[told])
    host.look()
    host.look()
    assert host.told() == [f"+{ONE}"]
    host.hubspot.post("uninstall", portalId=ONE)
    host.hubspot.post("journal/gap")
    host.settle()
    assert host.told() == [f"+{ONE}", f"-{ONE}"]


# --- how it is asked -------------------------------------------------------------------------------------


def test_the_apps_own_token(host: Host) -> None:
    """Rule F5; docs/hubspot.rst (Journal)."""
    host.install()
    host.settle()
    [asked] = [one for one in host.asked(f"/oauth/{OAUTH_VERSION}/token") if "client_cred" in one["request_body"]]
    assert " ".join(SCOPES).replace(" ", "+") in asked["request_body"]
    host.clock.advance(1_800)
    host.look()
    again = [one for one in host.asked(f"/oauth/{OAUTH_VERSION}/token") if "client_cred" in one["request_body"]]
    assert len(again) == 2, "it has no refresh token"


def test_files_are_fetched_without_our_token(host: Host) -> None:
    """Rule F5."""
    host.install()
    host.settle()
    files = [one for one in host.hubspot.requests() if one["path"].startswith("/journal-files/")]
    assert [one["status"] for one in files] == [200]
    assert "Authorization" not in files[0]["request_headers"]
    url = f"{host.hubspot.url}{files[0]['path']}?signature={files[0]['query']['signature']}"
    assert requests.get(url, headers={"Authorization": "Bearer x"}, timeout=30).status_code == 400
    assert requests.get(url, timeout=30).json()["journalEvents"][0]["action"] == INSTALLED
    assert requests.get(url[:-1], timeout=30).status_code == 403


@pytest.mark.parametrize("address", ["https://127.0.0.1/x", "http://files.example.com/x", "https://a@b.example/x", "x"])
def test_a_file_is_fetched_from_the_internet_only(make_app: MakeApp, address: str) -> None:
    """Rule F5; a real HubSpot names no address of this machine."""
    app = make_app(journal="on", api_base_url="https://api.hubapi.com", client_secret="x", **NO_SECRETS)
    with pytest.raises(Unreadable) as refused:
        state_of(app).services.journal().read(Entry("1", address))
    assert address not in str(refused.value)


def answering(body: bytes, status: int = 200) -> Any:
    """A storage that answers everything so."""

    @Request.application
    def application(request: Request) -> Response:
        return Response(body, status, content_type="application/json", headers={"Location": "/elsewhere"})

    return application


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"<html>", 200, "not what a file"),
        (b'{"journalEvents": {}}', 200, "not what a file"),
        (b"[" * 100_000, 200, "not what a file"),
        (b"x" * 10_000_001, 200, "too big"),
        (b"{}", 403, "answered 403"),
        (b"{}", 302, "answered 302"),
    ],
)
def test_a_storage_may_answer_anything(host: Host, body: bytes, status: int, why: str) -> None:
    """Rule F5."""
    server = make_server("127.0.0.1", 0, answering(body, status), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        with pytest.raises(Unreadable, match=why):
            host.state.services.journal().read(Entry("1", f"http://127.0.0.1:{server.port}/file?key=k"))
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


# --- bad days --------------------------------------------------------------------------------------------


def test_hubspot_is_down_for_a_while(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Rule F6."""
    host.install()
    host.settle()
    fault = {"match": "GET /webhooks-journal/", "mode": "status", "status": 503}
    host.hubspot.chaos(faults=[fault, {"match": "GET /journal-files/", "times": 2, "mode": "drop"}])
    host.remove()
    before = len(host.asked("/next"))
    host.settle()
    assert len(host.asked("/next")) - before < 20, "later and later"
    assert "503" in str(host.place().problem)
    host.hubspot.chaos(faults=[{"match": "GET /journal-files/", "times": 2, "mode": "drop"}])
    host.look(300)
    host.settle()
    assert host.told() == [f"+{ONE}", f"-{ONE}"]
    assert host.place().problem is None


def test_tokens_are_asked_when_hubspot_answers_again(host: Host) -> None:
    """Rule F6: what was read is not lost when the question can't be asked."""
    host.install()
    host.settle()
    host.hubspot.chaos(faults=[{"match": "/details$", "mode": "status", "status": 500}])
    host.remove()
    host.settle()
    assert host.told() == [f"+{ONE}"]
    host.hubspot.chaos(faults=[])
    host.look(600)
    assert host.told() == [f"+{ONE}", f"-{ONE}"]


def test_a_file_that_never_can_be_read_is_passed_over(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Rule F6: every portal is asked instead."""
    host.install()
    host.settle()
    host.hubspot.chaos(faults=[{"match": "GET /journal-files/", "times": TRIES, "mode": "status", "status": 403}])
    host.remove()
    for _ in range(TRIES + 1):
        host.look(600)
    assert host.told() == [f"+{ONE}", f"-{ONE}"]
    assert [one.message for one in caplog.records if "can't be read whole" in one.message]
    host.install()
    host.settle()
    assert host.place().offset == host.hubspot.get("journal")[-1]["offset"]


def test_an_item_that_can_t_be_read_has_every_portal_asked(host: Host) -> None:
    """Rule F6."""
    host.install()
    host.settle()
    host.remove()
    host.hubspot.post("journal/gap")
    event: Json = {"type": "app_lifecycle_event", "action": REMOVED, "portalId": ONE}
    host.hubspot.post("journal/events", events=[{**event, "portalId": "many"}, event])
    host.hubspot.chaos(journal_gone=204)  # with the gap our place is not gone
    host.settle()
    assert host.told()[:1] == [f"+{ONE}"]


@pytest.mark.parametrize("why", ["refused", "no_scope"])
def test_an_app_that_may_not_read_the_journal_is_warned_of_once(
    host: Host, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule F6."""
    caplog.set_level(logging.INFO)
    host.state.services.close()  # and its token with it
    host.hubspot.chaos(journal=why)
    for _ in range(5):
        host.look(REFUSED_MS / 1000)
    warned = [one.getMessage() for one in caplog.records if "refuses its journal" in one.getMessage()]
    assert len(warned) == 1
    assert "HH417" in warned[0]
    assert "scope" in warned[0]
    assert host.place().is_refused
    secrets = [value for name, value in host.hubspot.env().items() if "SECRET" in name or "TOKEN" in name]
    assert not any(secret in one.getMessage() for secret in secrets for one in caplog.records)
    host.hubspot.chaos(journal="ok")
    host.install()
    host.look(REFUSED_MS / 1000)
    host.settle()
    assert not host.place().is_refused
    host.remove()
    host.settle()
    assert host.told() == [f"+{ONE}", f"-{ONE}"]


def test_a_long_journal_is_read_with_pauses(host: Host) -> None:
    """Rule F6."""
    event = {"type": "app_lifecycle_event", "action": INSTALLED, "portalId": 7, "properties": {}}
    for number in range(IN_A_ROW + 5):
        host.hubspot.post("journal/events", events=[{**event, "occurredAt": number}])
    host.look()
    read = [one for one in host.hubspot.requests() if one["path"].startswith("/journal-files/")]
    assert len(read) == IN_A_ROW
    host.look()
    assert host.place().offset == host.hubspot.get("journal")[-1]["offset"]


def test_off_by_default(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> None:
    """Rule F1; what is left of it in the queue ends by itself."""
    app = make_app(clock=clock, dispatcher="inline")
    with state_of(app).ledger.write() as tx:
        journal.schedule(tx, now=clock.now_ms())
    state_of(app).dispatcher.run_due()
    clock.advance(60)
    state_of(app).dispatcher.run_due()
    assert not [one for one in hubspot.requests() if "journal" in one["path"]]
    with state_of(app).ledger.read() as tx:
        assert tx.status(now=clock.now_ms())["done"] == 1


def test_it_needs_the_client_id(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError, match="HUBSPOT_HITL_JOURNAL needs it"):
        make_app(journal="on", client_id=None, refresh_token=None, access_token="sim-x")


def test_two_dispatchers_are_one_poller(host: Host, make_app: MakeApp) -> None:
    """Rule F1."""
    settings = {**NO_PORTAL, "public_url": host.url, "journal": "on", "SECRET_KEY": "s"}
    twin = make_app(clock=host.clock, dispatcher="inline", **settings)
    host.install()
    for turn in range(10):
        host.begin()
        host.clock.advance(20)
        for one in (host.app, twin)[:: 1 if turn % 2 else -1]:
            state_of(one).dispatcher.run_due()
    looks = [one for one in host.hubspot.requests() if one["path"].startswith("/webhooks-journal/journal/")]
    assert len(looks) == 12, "two at the install, then one for each turn"
    tokens = [one for one in host.asked("/token") if "client_credentials" in one["request_body"]]
    assert len(tokens) == 2, "both have looked"
    assert host.told() == [f"+{ONE}"]


def test_the_queue_shows_nothing_of_it(host: Host) -> None:
    """A timer is no backlog."""
    host.settle()
    with host.state.ledger.read() as tx:
        assert tx.status(now=host.clock.now_ms())["pending"] == 0
        assert tx.waiting_events() == []


# --- with real time --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_within_a_minute_by_the_clock(make_app: MakeApp, serve: Serve, hubspot: HubSpot, record: Record) -> None:
    """Rule F1: in a server that dispatches by itself."""
    app = make_app(journal="on", SECRET_KEY="s", may_install=lambda portal_id: True, **NO_PORTAL)
    seen = record(app)
    calls = state_of(app).services.journal()
    for action in (INSTALLED, REMOVED):
        calls.subscribe(action)
    url = serve(app)
    hubspot.post("uninstall", portalId=PORTAL)
    with closing(Browser()) as browser:
        browser.connect(f"{url}/hubspot/oauth/install", PORTAL)
    seen.wait_for("installation_added", 1)
    wait_until(lambda: [one for one in hubspot.requests() if one["path"].endswith("/next")], what="a look")
    hubspot.post("uninstall", portalId=PORTAL)
    wait_until(lambda: seen.of("installation_revoked"), 60, "the word")
    assert json.dumps(seen.of("installation_revoked")) == json.dumps([{"portal_id": PORTAL}])
    assert len(seen.of("installation_added")) == 1
