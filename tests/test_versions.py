"""Which version of HubSpot's API a store uses, and the move to the newest (rules C7)."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from flask_hubspot_hitl.clock import ManualClock, SystemClock
from flask_hubspot_hitl.hubspot.oauth import Tokens
from flask_hubspot_hitl.hubspot.paths import API_ENDS, API_VERSIONS, NEWEST, OAUTH_ENDS, OAUTH_VERSIONS
from flask_hubspot_hitl.hubspot.scopes import AppKind
from flask_hubspot_hitl.ledger import AccountRecord, ChannelRecord, InstallationState, Ledger, Transaction
from flask_hubspot_hitl.portals import api_version, app_kind, installations
from flask_hubspot_hitl.portals.tokens import encrypted

from .conftest import MakeApp
from .helpers import PORTAL, HubSpot, begin_handoff, state_of, wait_until
from .test_migrations import make_store

OTHER = "525252"
UNSET: dict[str, Any] = {"api_version": None, "app_kind": None, "SECRET_KEY": "a key"}
INSTALLED: dict[str, Any] = UNSET | dict.fromkeys(("refresh_token", "portal_id", "channel_account_id", "inbox_id"))


def chosen(app: Flask) -> tuple[str, str, AppKind]:
    """What the app uses: API version, OAuth version, kind."""
    state = state_of(app)
    with state.ledger.read() as tx:
        return (
            api_version.api_version(tx, state.settings),
            api_version.oauth_version(tx, state.settings),
            app_kind.app_kind(tx, state.settings),
        )


# A store that is opened for the first time ---------------------------------------------------------------


@pytest.mark.parametrize("token", ["refresh_token", "access_token", "none"])
def test_a_new_store_uses_the_newest(make_app: MakeApp, hubspot: HubSpot, database_url: str, token: str) -> None:
    own: dict[str, Any] = {} if token == "refresh_token" else {"refresh_token": None}
    if token == "access_token":
        own["access_token"] = hubspot.get("access-token")["access_token"]
    app = make_app(**UNSET, **own)
    assert chosen(app) == (NEWEST, NEWEST, AppKind.PROJECT)
    if token != "none":
        state_of(app).services.client(PORTAL).inboxes()
        paths = {one["path"] for one in hubspot.requests() if one["request_headers"].get("User-Agent")}
        assert all(NEWEST in path for path in paths if not path.startswith("/_sim")), paths
    assert chosen(make_app(**UNSET, **own)) == (NEWEST, NEWEST, AppKind.PROJECT)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_store_stays_where_it_was(make_app: MakeApp, database_url: str, version: int) -> None:
    make_store(database_url, version)
    for _ in range(2):
        assert chosen(make_app(**UNSET)) == ("v3", "v3", AppKind.LEGACY_PUBLIC)
    assert chosen(make_app(**{**UNSET, "api_version": "2026-03", "oauth_version": "v1", "app_kind": "project"})) == (
        "2026-03",
        "v1",
        AppKind.PROJECT,
    )


def a_portal(tx: Transaction) -> None:
    tx.installations.install(PORTAL, "ciphertext", scopes=None, now=1)


def an_inbox(tx: Transaction) -> None:
    tx.installations.set_inbox(PORTAL, "700200300")


def a_channel(tx: Transaction) -> None:
    tx.channels.save(ChannelRecord(app_id="3131", channel_id="100458", webhook_url=None), now=1)


def an_account(tx: Transaction) -> None:
    record = AccountRecord(portal_id=PORTAL, account_id="880011", channel_id="100458", inbox_id="700200300")
    tx.channels.save_account(record, now=1)


def a_handoff(tx: Transaction) -> None:
    begin_handoff(tx, "c1", now=1)


@pytest.mark.parametrize("what", [a_portal, an_inbox, a_channel, an_account, a_handoff])
def test_whatever_is_in_a_store_of_before_keeps_it_on_v3(make_app: MakeApp, sqlite_url: str, what: Any) -> None:
    before = Ledger(sqlite_url, SystemClock())  # as versions opened it that knew nothing of this
    before.create()
    with before.write() as tx:
        what(tx)
    before.close()
    assert chosen(make_app(**UNSET)) == ("v3", "v3", AppKind.LEGACY_PUBLIC)


def test_what_comes_later_changes_nothing(make_app: MakeApp, database_url: str) -> None:
    app = make_app(**UNSET)
    with state_of(app).ledger.write() as tx:
        a_portal(tx)
        a_handoff(tx)
    assert chosen(make_app(**UNSET)) == (NEWEST, NEWEST, AppKind.PROJECT)


def test_processes_that_open_it_at_once_agree(database_url: str) -> None:
    make_store(database_url, 2)
    seen = []

    def remember(tx: Transaction) -> None:
        api_version.remember(tx)
        seen.append(tx.get_meta("api_version"))

    def open_it(_: int) -> None:
        ledger = Ledger(database_url, SystemClock(), on_open=remember)
        ledger.create()
        ledger.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(open_it, range(6)))
    assert seen == ["v3"] * 6


# Versions that end ---------------------------------------------------------------------------------------


def test_every_version_but_the_newest_is_said_to_end() -> None:
    assert {*API_ENDS} == {*API_VERSIONS} - {NEWEST}
    assert {*OAUTH_ENDS} == {*OAUTH_VERSIONS} - {NEWEST}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, []),
        ({"api_version": "v3"}, ["API version v3 ends in September 2027", "OAuth version v3 ends in September 2027"]),
        ({"oauth_version": "v1"}, ["OAuth version v1 ends on 16 February 2027"]),
    ],
)
def test_the_log_warns_once_when_dispatching_begins(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, settings: dict[str, str], told: list[str]
) -> None:
    app = make_app(**UNSET | settings, dispatcher="thread")
    assert " ends " not in caplog.text
    with caplog.at_level(logging.WARNING):
        state_of(app).dispatcher.ensure_started()
        wait_until(lambda: _is_alive(app), what="a sign of life")
    warned = [one.getMessage() for one in caplog.records if " ends " in one.getMessage()]
    assert [one.partition(" (")[0] for one in warned] == told
    for one in warned:
        assert "flask hubspot-hitl setup --migrate" in one
        assert ("take HUBSPOT_HITL_API_VERSION out" in one) is ("api_version" in settings)
        assert ("take HUBSPOT_HITL_OAUTH_VERSION out" in one) is ("oauth_version" in settings)


def _is_alive(app: Flask) -> bool:
    with state_of(app).ledger.read() as tx:
        return bool(tx.signs.all())


# setup --migrate -----------------------------------------------------------------------------------------


@pytest.fixture
def app(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> Flask:
    """An app on v3 with two portals that have installed it."""
    app = make_app(clock=clock, **INSTALLED)
    hubspot.control("POST", "apps", {"appId": "3131", "portalId": OTHER})
    state = state_of(app)
    with state.ledger.write() as tx:
        api_version.move(tx, "v3")
    for portal_id in (PORTAL, OTHER):
        install(app, portal_id, refresh_token_of(hubspot, portal_id))
    assert chosen(app)[:2] == ("v3", "v3")
    return app


def refresh_token_of(hubspot: HubSpot, portal_id: str) -> str:
    found = hubspot.control("POST", "apps", {"appId": "3131", "portalId": portal_id})
    return str(found["HUBSPOT_HITL_REFRESH_TOKEN"])


def install(app: Flask, portal_id: str, refresh_token: str) -> None:
    """Tokens as an installation of yesterday left them."""
    state = state_of(app)
    cipher = state.services.cipher()
    assert cipher is not None
    then = state.ledger.now_ms() - 86_400_000
    tokens = Tokens(access_token="gone", refresh_token=refresh_token, expires_at_ms=then, renew_at_ms=then)
    with state.ledger.write() as tx:
        installations.installed(tx, portal_id, encrypted(cipher, portal_id, tokens), scopes=None, now=then)


def migrate(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["hubspot-hitl", "setup", "--migrate", *arguments])


def asked(hubspot: HubSpot) -> list[tuple[str, int]]:
    """Our calls so far."""
    mine = [one for one in hubspot.requests() if one["request_headers"].get("User-Agent") == "Flask-HubSpot-HITL"]
    return [(one["path"], one["status"]) for one in mine]


def states(app: Flask) -> dict[str, InstallationState]:
    with state_of(app).ledger.read() as tx:
        return {one.portal_id: one.state for one in tx.installations.all()}


def test_every_token_is_tried_and_rotated_ones_are_kept(app: Flask, hubspot: HubSpot, database_url: str) -> None:
    hubspot.chaos(rotate_refresh_tokens=True)
    result = migrate(app)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"Portal {PORTAL}: {NEWEST} takes its token.",
        f"Portal {OTHER}: {NEWEST} takes its token.",
        f"API version {NEWEST} is used from now on. Restart what is running: until then it goes on as before.",
    ]
    each = [(f"/oauth/{NEWEST}/token", 200), (f"/account-info/{NEWEST}/details", 200)]
    assert asked(hubspot) == each * 2
    assert chosen(app)[:2] == (NEWEST, NEWEST)
    for portal_id in (PORTAL, OTHER):
        state_of(app).services.client(portal_id).inboxes()
    assert asked(hubspot)[4:] == [(f"/conversations/conversations/{NEWEST}/inboxes", 200)] * 2, "with the new tokens"
    assert "sim-" not in result.output


def test_a_second_run_is_as_good(app: Flask) -> None:
    migrate(app)
    facts = json.loads(migrate(app, "--json").stdout)
    assert (facts["migrated"], facts["api_version"], facts["take_out"]) == (True, NEWEST, [])
    assert [(one["portal_id"], one["ok"]) for one in facts["portals"]] == [(PORTAL, True), (OTHER, True)]


def test_nothing_changes_when_one_is_refused(
    make_app: MakeApp, app: Flask, hubspot: HubSpot, clock: ManualClock
) -> None:
    hubspot.chaos(rotate_refresh_tokens=True)
    install(app, OTHER, "of a version that is not taken any more")
    result = migrate(app)
    assert result.exit_code == 1
    assert f"Portal {PORTAL}: {NEWEST} takes its token." in result.output
    assert f"Portal {OTHER}: refreshing the access token: HubSpot" in result.output
    assert "Nothing was changed: API version v3 is used as before." in result.output
    assert f"{NEWEST} can't be used for portal {OTHER} yet" in result.output
    assert "not taken any more" not in result.output, "a secret"
    assert chosen(app)[:2] == ("v3", "v3")
    assert states(app) == dict.fromkeys((PORTAL, OTHER), InstallationState.ACTIVE)
    clock.advance(3600)
    before = len(asked(hubspot))
    state_of(app).services.client(PORTAL).inboxes()
    since = asked(hubspot)[before:]
    assert {("/oauth/v3/token", 200), ("/conversations/v3/conversations/inboxes", 200)} <= set(since)
    assert not [path for path, _ in since if NEWEST in path]


def test_hubspots_bad_day_is_told_and_nothing_changes(app: Flask, hubspot: HubSpot) -> None:
    hubspot.chaos(faults=[{"match": f"POST /oauth/{NEWEST}", "times": None, "status": 503}])
    result = migrate(app, "--json")
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert (facts["migrated"], facts["api_version"]) == (False, "v3")
    assert [one["ok"] for one in facts["portals"]] == [False, False]
    assert "503" in facts["portals"][0]["words"]
    hubspot.chaos(faults=[])
    assert migrate(app).exit_code == 0, "the leases were given back"


def test_a_portal_that_is_revoked_already_is_left_out(app: Flask, hubspot: HubSpot) -> None:
    with state_of(app).ledger.write() as tx:
        installations.revoked(tx, OTHER, now=state_of(app).ledger.now_ms())
    result = migrate(app)
    assert result.exit_code == 0, result.output
    assert f"Portal {OTHER}: left out: HubSpot refuses its token already" in result.output
    assert len(asked(hubspot)) == 2
    assert states(app)[OTHER] == InstallationState.REVOKED


@pytest.mark.parametrize("name", ["api_version", "oauth_version"])
def test_a_setting_that_says_otherwise_is_named(make_app: MakeApp, hubspot: HubSpot, app: Flask, name: str) -> None:
    other = make_app(**INSTALLED | {name: "v3"})
    result = migrate(other)
    assert result.exit_code == 1
    assert f"API version {NEWEST} is used once the settings let it." in result.output
    assert f"Every token is good, but the settings say otherwise: take out HUBSPOT_HITL_{name.upper()}" in result.output
    assert chosen(other)[:2] == (("v3", "v3") if name == "api_version" else (NEWEST, "v3"))
    assert chosen(make_app(**INSTALLED))[:2] == (NEWEST, NEWEST), "once it is taken out"


def test_a_configured_refresh_token_that_rotates_is_kept(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock
) -> None:
    hubspot.chaos(rotate_refresh_tokens=True)
    app = make_app(clock=clock, **UNSET)
    with state_of(app).ledger.write() as tx:
        api_version.move(tx, "v3")
    assert migrate(app).exit_code == 0
    clock.advance(3600)
    again = make_app(clock=clock, **UNSET)
    state_of(again).services.client(PORTAL).inboxes()
    assert [path for path, status in asked(hubspot) if status == 200 and "/token" in path] == [
        f"/oauth/{NEWEST}/token"
    ] * 2


def test_without_a_key_no_token_is_touched(make_app: MakeApp, hubspot: HubSpot) -> None:
    result = migrate(make_app(**UNSET | {"SECRET_KEY": None}))
    assert result.exit_code == 1
    assert "there is no key to encrypt HubSpot's tokens with" in result.output
    assert asked(hubspot) == []


def test_a_configured_access_token_is_asked_about(make_app: MakeApp, hubspot: HubSpot) -> None:
    token = hubspot.get("access-token")["access_token"]
    app = make_app(**UNSET, refresh_token=None, access_token=token)
    result = migrate(app)
    assert result.exit_code == 0, result.output
    assert asked(hubspot) == [(f"/account-info/{NEWEST}/details", 200)]
    wrong = migrate(make_app(**UNSET, refresh_token=None, access_token=token, portal_id=OTHER))
    assert wrong.exit_code == 1
    assert f"portal {PORTAL}'s" in wrong.output
    private = migrate(make_app(**UNSET, refresh_token=None, access_token=token, client_id=None))
    assert "left out: its token is configured and never renewed" in private.output


def test_a_store_without_portals_is_moved_at_once(make_app: MakeApp, hubspot: HubSpot) -> None:
    app = make_app(**INSTALLED)
    with state_of(app).ledger.write() as tx:
        api_version.move(tx, "v3")
    assert migrate(app).exit_code == 0
    assert (chosen(app)[:2], asked(hubspot)) == ((NEWEST, NEWEST), [])


def test_it_goes_with_no_other_option(make_app: MakeApp) -> None:
    result = migrate(make_app(**UNSET), "--plan")
    assert (result.exit_code, "without other options" in result.output) == (2, True)


# The suite on v3 -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif("HITL_TEST_API_VERSION" in os.environ, reason="this run has a version of its own")
def test_a_part_of_the_suite_on_v3() -> None:
    """Its calls are held against HubSpot's documents at the end of this run."""
    names = ("rules_inbound", "rules_outbound", "oauth", "refresh", "setup", "portals", "reconcile", "accounts", "kit")
    files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "not slow", "-p", "no:cacheprovider", *files]
    env = {**os.environ, "HITL_TEST_API_VERSION": "v3"}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_CURRENT_TEST"):
        env.pop(name, None)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
