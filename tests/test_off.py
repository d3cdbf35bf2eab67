"""An app without live agents: switched off, without a setting, with half of them, or with its database away."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask_wtf import CSRFProtect

from flask_hubspot_hitl import (
    Attachment,
    Availability,
    AvailabilityReason,
    ConfigError,
    HubSpotHITL,
    LedgerUnavailable,
    NotConfigured,
)
from flask_hubspot_hitl.adapters.langgraph import GraphHandoffs
from flask_hubspot_hitl.botpress.chat import ChatBridge
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.studio import StudioBridge
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.config import ENVIRONMENT, PREFIX

from . import databases
from .conftest import MakeApp, Serve
from .databases import Cluster
from .helpers import HubSpot, Recorder, signed_post, state_of, status_event, wait_until

QUIET: dict[str, Any] = {
    "get": None,
    "is_active": False,
    "waiting": None,
    "transcript": [],
    "stop": None,
    "unassign": False,
    "mark_read": 0,
}
"""The verbs that ask and take a conversation alone, with what they answer where there is no handoff."""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the machine."""
    for name in list(os.environ):
        if name.startswith((PREFIX, ENVIRONMENT)):
            monkeypatch.delenv(name)


@pytest.fixture
def bare(tmp_path: Path) -> Callable[..., Flask]:
    """Makes apps without the extension."""

    def make(**settings: Any) -> Flask:
        app = Flask("bare", instance_path=str(tmp_path / "instance"))
        app.config.from_mapping({f"{PREFIX}{name.upper()}": value for name, value in settings.items()})
        return app

    return make


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


# --- switched off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "false", 0, False, " Off "])
def test_switched_off_verbs_that_ask_find_nothing_and_start_says_why(
    value: Any, bare: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app, hitl = bare(enabled=value, public_url="not even an address"), HubSpotHITL()
    hitl.init_app(app)
    with app.app_context():
        for verb, nothing in QUIET.items():
            assert getattr(hitl, verb)("c1") == nothing, verb
        assert hitl.send("c1", "hello") is False, "the bot answers"
        assert (hitl.note("c1", "n"), hitl.assign("c1", "A-1"), hitl.rate("c1", 5)) == (False, False, False)
        assert hitl.availability() == Availability(False, reason=AvailabilityReason.OFF)
        with pytest.raises(NotConfigured, match="HUBSPOT_HITL_ENABLED is false"):
            hitl.start("c1", contact="+34911222333")
        with hitl.bot_turn("c1") as turn:
            assert turn.reply("the bot's own words")
            with pytest.raises(NotConfigured, match="HUBSPOT_HITL_ENABLED is false"):
                turn.start(contact="+34911222333")
        with pytest.raises(NotConfigured):
            hitl.attachment_url("c1", Attachment(name="a", content_type="text/plain", content=b""))
        hitl.close()
    assert len(warnings(caplog)) == 1
    assert "HUBSPOT_HITL_ENABLED is false" in warnings(caplog)[0]
    assert not Path(app.instance_path).exists(), "no database was made"


def test_the_pages_of_an_app_without_agents(bare: Callable[..., Flask]) -> None:
    app = bare(enabled="0", url_prefix="/agents/")
    app.secret_key = "k"
    CSRFProtect(app)
    HubSpotHITL(app)
    client = app.test_client()
    assert client.post("/agents/webhook", data=b"[]").status_code == 503, "HubSpot comes again"
    assert client.get("/agents/oauth/install").status_code == 503
    health = client.get("/agents/healthz")
    assert (health.status_code, health.json) == (200, {"status": "off"}), "the site itself is well"


def test_bridges_and_graphs_of_an_app_without_agents_do_nothing(bare: Callable[..., Flask]) -> None:
    app, hitl = bare(enabled="0"), HubSpotHITL()
    hitl.init_app(app)
    bridge = ChatBridge(hitl)
    for one in (bridge, StudioBridge(hitl), HitlApiBridge(hitl)):
        one.init_app(app)
    with app.app_context(), pytest.raises(NotConfigured, match="HUBSPOT_HITL_ENABLED"):
        bridge.user_message("u1", "hello")
    asks_nobody = SimpleNamespace(get_state=lambda _: SimpleNamespace(interrupts=()), invoke=lambda value, _: value)
    graph = GraphHandoffs(app, hitl, graph=asks_nobody, deliver=print)
    with app.app_context():
        assert graph.run("c1", {"answer": "hello"}) == {"answer": "hello"}
    assert app.test_client().post("/hubspot/botpress/start").status_code == 404


def test_a_wrong_switch_is_an_error(bare: Callable[..., Flask]) -> None:
    with pytest.raises(ConfigError, match="HUBSPOT_HITL_ENABLED must be true or false"):
        HubSpotHITL(bare(enabled="perhaps"))


# --- without a setting -----------------------------------------------------------------------------------


def test_without_a_setting_every_verb_says_what_is_missing(
    bare: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app, hitl = bare(), HubSpotHITL()
    hitl.init_app(app)
    missing = r"(?s)HUBSPOT_HITL_CLIENT_SECRET and HUBSPOT_HITL_PUBLIC_URL are missing.*simulate --env.*_ENABLED=0"
    with app.app_context():
        for verb in QUIET:
            with pytest.raises(NotConfigured, match=missing):
                getattr(hitl, verb)("c1")
        for call in (lambda: hitl.send("c1", "x"), lambda: hitl.start("c1"), hitl.availability):
            with pytest.raises(NotConfigured, match=missing):
                call()
        with pytest.raises(NotConfigured, match=missing):
            hitl.bot_turn("c1")
    assert len(warnings(caplog)) == 1
    assert "HUBSPOT_HITL_CLIENT_SECRET" in warnings(caplog)[0]
    assert app.test_client().post("/hubspot/webhook", data=b"[]").status_code == 503


def test_settings_that_nobody_read_are_no_reason_to_be_off(
    bare: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{ENVIRONMENT}CLIENT_SECRET", "s")
    with pytest.raises(ConfigError, match=rf"{ENVIRONMENT}CLIENT_SECRET.*from_prefixed_env\(\)"):
        HubSpotHITL(bare())


def test_half_of_the_settings_is_one_error_with_lines_to_paste(bare: Callable[..., Flask]) -> None:
    with pytest.raises(ConfigError) as raised:
        HubSpotHITL(bare(client_id="id", lease_ttl="soon"))
    assert len(raised.value.problems) == 3
    said = str(raised.value)
    assert "flask hubspot-hitl simulate --env" in said
    pasted = dict(
        shlex.split(line.partition("Example: ")[2])[0].split("=", 1)
        for line in raised.value.problems
        if "is missing" in line
    )
    assert pasted == {
        f"{ENVIRONMENT}CLIENT_SECRET": "<the client secret, under Auth in the settings of the app>",
        f"{ENVIRONMENT}PUBLIC_URL": "https://bot.example.com",
    }


APP = """
from flask import Flask
from flask_hubspot_hitl import HubSpotHITL

app = Flask(__name__)
app.config.from_prefixed_env()
hitl = HubSpotHITL(app)

@app.cli.command("build")
def build():
    print("built")
"""


def flask(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(APP)
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({}, id="no setting"),
        pytest.param({f"{ENVIRONMENT}ENABLED": "0"}, id="off", marks=pytest.mark.slow),
    ],
)
def test_the_hosts_own_commands_run(env: dict[str, str], tmp_path: Path) -> None:
    done = flask(tmp_path, "build", **env)
    assert (done.returncode, done.stdout) == (0, "built\n")
    assert done.stderr.count("runs without live agents") == 1
    for command in ("status", "setup", "doctor", "dead list", f"sign {os.devnull}", "project init p"):
        refused = flask(tmp_path, "hubspot-hitl", *command.split(), **env)
        assert refused.returncode == 1, command
        assert "Traceback" not in refused.stderr, command
        wanted = "HUBSPOT_HITL_ENABLED is false" if env else "HUBSPOT_HITL_CLIENT_SECRET"
        assert wanted in refused.stdout + refused.stderr.partition("Error: ")[2], command


# --- the database is away --------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with databases.cluster() as made:
        yield made


@contextlib.contextmanager
def away(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A database that is not there: its address, and what brings it back."""
    if kind == "postgresql":
        server: Cluster = request.getfixturevalue("cluster")
        server.control("stop", "-m", "fast")
        yield server.url, lambda: server.control("start")
        return
    mount = tmp_path / "mount"
    mount.write_text("where a disk will be")

    def back() -> None:
        mount.unlink()
        mount.mkdir(mode=0o700)

    yield f"sqlite:///{mount}/bot.sqlite3", back


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_site_starts_while_the_database_is_away_and_all_works_once_it_is_back(
    kind: str,
    make_app: MakeApp,
    serve: Serve,
    record: Callable[[Flask], Recorder],
    hubspot: HubSpot,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with away(kind, request, tmp_path) as (url, come_back):
        app, hitl = make_app(dispatcher="thread", database_url=url), HubSpotHITL()
        app.add_url_rule("/", "home", lambda: "the site")
        heard = record(app)
        assert [text for text in warnings(caplog) if "starts all the same" in text]
        serve(app)
        client = app.test_client()
        assert client.get("/").text == "the site"
        assert client.get("/hubspot/healthz").status_code == 503
        assert signed_post(app, [status_event("CLOSED", at=SystemClock().now_ms())]).status_code == 503
        with app.app_context(), pytest.raises(LedgerUnavailable):
            hitl.send("c1", "hello")
        come_back()
        wait_until(lambda: client.get("/hubspot/healthz").status_code == 200, what="the database")
        with app.app_context():
            thread_id = hitl.start("c1", contact="rosa@example.test").thread_id
        wait_until(lambda: state_of(app).dispatcher.has_started, what="the dispatcher")
        hubspot.act(thread_id, "reply", text="at your service")
        heard.wait_for("operator_message")
