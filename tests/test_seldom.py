"""What may happen again and again is logged once a minute, and no app silences another one of its process."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import LedgerUnavailable
from flask_hubspot_hitl.botpress.door import add_routes, bearer
from flask_hubspot_hitl.dispatch.seldom import SECONDS, Seldom

from .conftest import MakeApp
from .helpers import signed_post, state_of

logger = logging.getLogger(__name__)


def test_each_kind_of_line_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 5.0
    seldom = Seldom(lambda: now)

    def happen() -> list[str]:
        caplog.clear()
        seldom(logger, logging.WARNING, "refused: %s", "a")
        seldom(logger, logging.WARNING, "refused: %s", "b")
        seldom(logger, logging.ERROR, "%s of %s hang", 3, 4)
        for reason in ("missing", "stale", "stale"):
            seldom(logger, logging.WARNING, "%s", f"rejected ({reason})", key=reason)
        return caplog.messages

    first = ["refused: a", "3 of 4 hang", "rejected (missing)", "rejected (stale)"]
    assert happen() == first
    now += SECONDS - 0.1
    assert happen() == []
    now += 0.1
    assert happen() == first


def test_two_apps_of_a_process_tell_the_same_of_their_own(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    def view(body: dict[str, Any]) -> Any:
        raise LedgerUnavailable("the disk is full")

    apps = [make_app(dispatcher="external", public_url=f"https://{name}.example.com") for name in ("one", "two")]
    for app in apps:
        add_routes(app, "test", "/test", {"/turn": view}, check=bearer("secret"))

    def happen(app: Flask) -> list[str]:
        caplog.clear()
        for _ in range(3):
            assert signed_post(app, [], secret="wrong").status_code == 401
            told = app.test_client().post(
                "/hubspot/botpress/test/turn", json={}, headers={"Authorization": "Bearer secret"}
            )
            assert told.status_code == 503
            state_of(app).dispatcher.blocked()
        return [record.name.rpartition(".")[2] for record in caplog.records]

    first = ["hearing", "webhook", "door"]  # nobody listens; a wrong secret; the database
    assert happen(apps[0]) == first
    assert happen(apps[1]) == [*first, "threads"], "its database is the other one's: nothing is dispatched"
    assert happen(apps[0]) == happen(apps[1]) == []
