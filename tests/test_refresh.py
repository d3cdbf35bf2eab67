"""One refresh for all processes, and tokens at rest."""

from __future__ import annotations

import os
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests
from cryptography.fernet import Fernet
from flask import Flask

from flask_hubspot_hitl import NotConfigured
from flask_hubspot_hitl.clock import ManualClock, SystemClock
from flask_hubspot_hitl.errors import TokenRevoked
from flask_hubspot_hitl.hubspot.oauth import Tokens
from flask_hubspot_hitl.ledger import Ledger
from flask_hubspot_hitl.ledger.crypto import Cipher, Undecipherable
from flask_hubspot_hitl.portals import installations
from flask_hubspot_hitl.portals.tokens import LEASE_MS, encrypted

from .conftest import MakeApp
from .forked import Forked
from .helpers import PORTAL, HubSpot, Json, seconds_of, state_of, wait_until

FIRST = "sim-refresh-0001"


def refreshes(hubspot: HubSpot, *statuses: int) -> list[str]:
    """The refresh tokens that HubSpot was asked with."""
    asked = [one for one in hubspot.requests() if one["path"].endswith("/token")]
    return [
        parse_qs(one["request_body"])["refresh_token"][0] for one in asked if not statuses or one["status"] in statuses
    ]


def granted(hubspot: HubSpot) -> list[str]:
    """The refresh tokens that HubSpot took."""
    return refreshes(hubspot, 200)


def call(app: Flask) -> list[Json]:
    """One call to HubSpot, as one process makes it."""
    return state_of(app).services.client(PORTAL).inboxes()


def reinstall(hubspot: HubSpot) -> None:
    """HubSpot forgets every access token, and of the refresh tokens it knows the preset one only."""
    token = hubspot.control("GET", "access-token")["access_token"]
    url = f"{hubspot.url}/appinstalls/v3/external-install"
    requests.delete(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).raise_for_status()
    hubspot.reset()


def stored(app: Flask) -> str | None:
    with state_of(app).ledger.read() as tx:
        row = tx.installations.get(PORTAL)
    return None if row is None else row.secret


def install_an_hour_ago(database_url: str) -> None:
    """Tokens of an installation as they lie in the database, the access token long expired."""
    ledger = Ledger(database_url, SystemClock())
    ledger.create()
    then = ledger.now_ms() - 3_600_000
    tokens = Tokens(access_token="gone", refresh_token=FIRST, expires_at_ms=then + 1_800_000, renew_at_ms=then)
    secret = encrypted(Cipher([], ["a secret of the app's"]), PORTAL, tokens)
    with ledger.write() as tx:
        installations.installed(tx, PORTAL, secret, scopes=None, now=then)
    ledger.close()


CALLER = """
import os, sys, threading
from flask import Flask
from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.runtime import get_runtime
app = Flask("caller")
app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
app.config["SECRET_KEY"] = "a secret of the app's"
HubSpotHITL(app)
client = get_runtime(app).services.client("424242")
if arguments[0] == "warm":
    client.inboxes()
ready()
done = []
def one():
    try:
        client.inboxes()
        done.append(1)
    except Exception as error:
        print(repr(error), file=sys.stderr)
threads = [threading.Thread(target=one) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
tell(len(done))
"""


CASES = [*product(["expired", "rejected"], [False, True]), ("first", False), ("installed", True)]
HERE = {"sqlite": [("rejected", True)]}
"""What each database does in every run; the rest belongs to ``make slow``."""
HERE["postgresql"] = [("expired", True), ("installed", True)]


@pytest.mark.parametrize(
    ("database_url", "case", "rotating"),
    [
        pytest.param(database, *one, marks=() if one in often else pytest.mark.slow)
        for database, often in HERE.items()
        for one in CASES
    ],
    indirect=["database_url"],
)
def test_d33_four_processes_with_twenty_threads_refresh_once(
    hubspot: HubSpot, database_url: str, case: str, rotating: bool
) -> None:
    hubspot.chaos(rotate_refresh_tokens=rotating, token_seconds=2 if case == "expired" else 1800)
    env = {**os.environ, **hubspot.env(), "HUBSPOT_HITL_DATABASE_URL": database_url}
    env |= {"HUBSPOT_HITL_PUBLIC_URL": "http://127.0.0.1:9", "HUBSPOT_HITL_RATE_LIMIT": "1000"}
    if case == "installed":  # by OAuth, an hour ago; nothing is configured
        del env["HUBSPOT_HITL_REFRESH_TOKEN"], env["HUBSPOT_HITL_PORTAL_ID"]
        install_an_hour_ago(database_url)
    slowly = {"faults": [{"match": "POST /oauth", "times": 1, "mode": "delay", "seconds": 0.3}]}
    is_cold, before = case in ("first", "installed"), len(granted(hubspot))
    if is_cold:
        hubspot.chaos(rotate_refresh_tokens=rotating, **slowly)  # a dispatcher may be the first to want a token
    with Forked(CALLER, "cold" if is_cold else "warm", count=4, env=env) as processes:
        if case == "expired":
            time.sleep(2.1)
            hubspot.chaos(token_seconds=1800)
        if case == "rejected":
            reinstall(hubspot)
        if not is_cold:
            before = len(granted(hubspot))
            hubspot.chaos(rotate_refresh_tokens=rotating, **slowly)
        assert processes.go() == ["20"] * 4
        assert len(granted(hubspot)) - before == 1


def test_a_rotated_refresh_token_outlives_the_process(
    make_app: MakeApp, hubspot: HubSpot, database_url: str, clock: ManualClock
) -> None:
    hubspot.chaos(rotate_refresh_tokens=True)
    configured = hubspot.env()["HUBSPOT_HITL_REFRESH_TOKEN"]
    call(make_app(clock=clock, SECRET_KEY="s"))
    clock.advance(1800)
    later = make_app(clock=clock, SECRET_KEY="s", refresh_token=configured)
    call(later)
    assert len(set(granted(hubspot))) == 2, "each was used once"
    assert refreshes(hubspot, 400) == []
    reinstall(hubspot)
    call(later)
    assert granted(hubspot) == [configured], "the stored one is dead: the configured one is tried"
    assert len(refreshes(hubspot, 400)) == 1


def test_another_configured_token_starts_anew(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> None:
    call(make_app(clock=clock, SECRET_KEY="s"))
    clock.advance(1)
    with pytest.raises(TokenRevoked):
        call(make_app(clock=clock, SECRET_KEY="s", refresh_token="sim-of-another-time"))
    assert refreshes(hubspot, 400) == ["sim-of-another-time"]


def test_with_both_dead_it_is_revoked(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> None:
    hubspot.chaos(rotate_refresh_tokens=True)
    app = make_app(clock=clock, SECRET_KEY="s")
    call(app)
    hubspot.chaos(revoked=True)
    with pytest.raises(TokenRevoked, match="connected again"):
        call(app)
    assert len(refreshes(hubspot, 400)) == 2
    hubspot.reset()
    clock.advance(61)
    call(app)


def test_a_lease_whose_holder_was_killed_ends(
    make_app: MakeApp, hubspot: HubSpot, database_url: str, clock: ManualClock
) -> None:
    app = make_app(clock=clock, SECRET_KEY="s")
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        fence = tx.installations.claim(PORTAL, now=clock.now_ms(), until=clock.now_ms() + LEASE_MS)
        assert fence == 1
        assert tx.installations.claim(PORTAL, now=clock.now_ms(), until=clock.now_ms() + LEASE_MS) is None
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(call(app)))
    waiting.start()
    time.sleep(0.3)
    assert refreshes(hubspot) == []
    clock.advance(LEASE_MS / 1000)
    waiting.join(60)
    assert found
    secret = stored(app)
    with ledger.write() as tx:
        assert not tx.installations.release(PORTAL, fence=1, secret="late"), "the fence has risen"
    assert stored(app) == secret


def test_with_a_token_that_works_nobody_waits_for_another_process_to_refresh(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock
) -> None:
    app = make_app(clock=clock, SECRET_KEY="s")
    call(app)
    clock.advance(1600)
    with state_of(app).ledger.write() as tx:
        tx.installations.claim(PORTAL, now=clock.now_ms(), until=clock.now_ms() + LEASE_MS)
    assert seconds_of(lambda: call(app), less_than=5, tries=1) < 5
    assert len(refreshes(hubspot)) == 1


def test_a_stored_token_that_works_is_used_while_the_token_endpoint_does_not_answer(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock
) -> None:
    call(make_app(clock=clock, SECRET_KEY="s"))
    clock.advance(1600)
    hubspot.chaos(faults=[{"match": "POST /oauth", "times": None, "mode": "status", "status": 503}])
    later = make_app(clock=clock, SECRET_KEY="s")
    for _ in range(20):
        call(later)
    assert len(refreshes(hubspot, 503)) == 1
    clock.advance(16)
    call(later)
    assert len(refreshes(hubspot, 503)) == 2


def test_tokens_are_encrypted_at_rest(make_app: MakeApp, hubspot: HubSpot, tmp_path: Path, clock: ManualClock) -> None:
    app = make_app(clock=clock, SECRET_KEY="s")
    call(app)
    assert stored(app)
    headers = [one["request_headers"] for one in hubspot.requests()]
    used = {one["Authorization"].split()[1] for one in headers if "Authorization" in one}
    assert used
    state_of(app).ledger.close()
    data = b"".join(one.read_bytes() for one in tmp_path.glob("hitl.sqlite3*"))
    assert not [token for token in {*used, FIRST} if token.encode() in data]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"SECRET_KEY": "old"}, {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["old"]}),
        ({"SECRET_KEY": b"s"}, {"SECRET_KEY": "s", "encryption_key": Fernet.generate_key().decode()}),
    ],
)
def test_keys_can_be_changed(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, old: Json, new: Json) -> None:
    call(make_app(clock=clock, **old))
    call(make_app(clock=clock, **new))
    assert len(refreshes(hubspot)) == 1


def test_tokens_that_cannot_be_read_are_left_alone(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(clock=clock, SECRET_KEY="old")
    call(app)
    before = stored(app)
    call(make_app(clock=clock, SECRET_KEY="new"))
    assert len(refreshes(hubspot)) == 2
    assert stored(app) == before
    assert "can't be read" in caplog.text
    assert FIRST not in caplog.text


def test_without_a_key_nothing_is_stored(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> None:
    apps = [make_app(clock=clock), make_app(clock=clock)]
    for app in apps:
        call(app)
    assert len(refreshes(hubspot)) == 2
    assert stored(apps[0]) is None


def test_a_bad_encryption_key_is_named(make_app: MakeApp) -> None:
    with pytest.raises(NotConfigured, match="ENCRYPTION_KEY"):
        call(make_app(encryption_key="too-short"))


def test_a_secret_belongs_to_one_portal() -> None:
    cipher = Cipher([], ["s"])
    secret = cipher.encrypt("1", {"a": "b"})
    assert cipher.decrypt("1", secret) == {"a": "b"}
    for wrong in (("2", secret), ("1", secret[:-9]), ("1", "")):
        with pytest.raises(Undecipherable):
            cipher.decrypt(*wrong)
    assert "s" not in repr(cipher).removeprefix("Cipher")


def test_a_short_wait_in_start_does_not_lose_a_rotated_token(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock
) -> None:
    hubspot.chaos(
        rotate_refresh_tokens=True,
        faults=[{"match": "POST /oauth", "times": 1, "mode": "delay", "seconds": 0.8}],
    )
    app = make_app(clock=clock, SECRET_KEY="s")
    client = state_of(app).services.client(PORTAL)
    with client.deadline(0.2), pytest.raises(Exception, match="in time"):
        client.inboxes()
    wait_until(lambda: stored(app), what="the token")
    call(app)
    assert len(refreshes(hubspot)) == 1
