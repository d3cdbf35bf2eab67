"""What must not be told is told nowhere: no token, secret or key in any log at DEBUG, none in the clear at rest."""

from __future__ import annotations

import logging
import re
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.ledger import SCHEMA

from .browser import Browser, said
from .conftest import MakeApp, Serve
from .helpers import PATHS, PORTAL, HubSpot, state_of
from .story import PHONE
from .test_migrations import rows


def spoken(hubspot: HubSpot) -> dict[str, str]:
    """Every secret that went between us and HubSpot, with what it is."""
    found: dict[str, str] = {}
    for one in hubspot.requests():
        bearer = one["request_headers"].get("Authorization", "").removeprefix("Bearer ")
        if bearer:
            found[bearer] = "access token"
        if one["path"].endswith("/token"):
            sent = {name: values[0] for name, values in parse_qs(one["request_body"]).items()}
            found |= {sent[name]: name for name in ("client_secret", "refresh_token", "code") if name in sent}
        if "hapikey" in one["query"]:
            found[one["query"]["hapikey"]] = "developer key"
    return found


def test_no_secret_is_told_and_no_token_lies_in_the_clear(
    make_app: MakeApp,
    serve: Serve,
    hubspot: HubSpot,
    database_url: str,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    # Before the engine is made, which looks once; and HubSpot's own client, where it was imported, silences urllib3.
    for name in ("sqlalchemy", "sqlalchemy.engine", "urllib3", "urllib3.connectionpool"):
        caplog.set_level(logging.DEBUG, logger=name)
    hubspot.chaos(rotate_refresh_tokens=True)
    config: dict[str, Any] = dict.fromkeys(("refresh_token", "portal_id"))
    key = "the app's own secret key"
    app = make_app(clock=clock, dispatcher="inline", may_install=lambda portal_id: True, SECRET_KEY=key, **config)
    url = f"{serve(app, target=False)}/hubspot/oauth/install"
    with closing(Browser()) as browser:
        back = browser.agree(browser.to_hubspot(url), PORTAL)
        assert said(browser.get(back)) == "HubSpot is connected"
        browser.get(back)
    client = state_of(app).services.client(PORTAL)
    client.list_channels()
    with app.app_context():
        HubSpotHITL().start("c1", contact=PHONE, inbox_id="700200300")
    for _ in range(2):
        clock.advance(1700)
        client.inboxes()
    assert app.test_cli_runner().invoke(args=["hubspot-hitl", "rekey"]).exit_code == 0
    hubspot.chaos(revoked=True)
    with pytest.raises(Exception, match="connected again"):
        client.inboxes()
    state_of(app).dispatcher.run_due()

    secrets = spoken(hubspot)
    kinds = list(secrets.values())
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "access token": 3,
        "refresh_token": 3,
        "client_secret": 1,
        "developer key": 1,
        "code": 1,
    }
    spoke = {record.name.partition(".")[0] for record in caplog.records}
    assert {"urllib3", "sqlalchemy", "flask_hubspot_hitl"} <= spoke
    assert re.search(r"INSERT INTO (hubspot_hitl\.)?hitl_installation", caplog.text), "SQLAlchemy told its statements"
    assert PATHS.oauth_token() in caplog.text, "urllib3 told its requests"
    assert "hapikey=…" in caplog.text
    told = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert [what for secret, what in (secrets | {key: "the app's key"}).items() if secret in told] == []

    where = database_url
    if not state_of(app).ledger.is_sqlite:
        where += f"{'&' if '?' in where else '?'}options=-csearch_path%3D{SCHEMA}"
    kept = repr(rows(where)).encode()
    state_of(app).ledger.close()
    for file in tmp_path.glob("hitl.sqlite3*"):
        kept += file.read_bytes()
    assert PORTAL.encode() in kept
    assert [what for secret, what in secrets.items() if secret.encode() in kept] == []
