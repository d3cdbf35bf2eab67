"""HubSpotHITL on an app, on two, and on none (rules A)."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app

import flask_hubspot_hitl
from flask_hubspot_hitl import ConfigError, HubSpotHITL, LedgerUnavailable, operator_message, webhook_rejected
from flask_hubspot_hitl.handoffs.hearing import receivers_of
from flask_hubspot_hitl.runtime import Runtime

from .conftest import MakeApp, Serve, close_app
from .helpers import HubSpot, Recorder, open_handoff, signed_post, state_of, status_event, wait_until

Record = Callable[[Flask], Recorder]


@pytest.fixture
def bare(hubspot: HubSpot, sqlite_url: str) -> Callable[[], Flask]:
    """Makes apps with settings and without the extension."""

    def make(kind: type[Flask] = Flask) -> Flask:
        app = kind("bare")
        app.config.from_mapping(hubspot.env())
        app.config["HUBSPOT_HITL_PUBLIC_URL"] = "https://bot.example.test"
        app.config["HUBSPOT_HITL_DATABASE_URL"] = sqlite_url
        app.config["HUBSPOT_HITL_DISPATCHER"] = "external"
        return app

    return make


def test_the_constructor_with_an_app_is_the_same_as_init_app(bare: Callable[[], Flask]) -> None:
    one, two = bare(), bare()
    HubSpotHITL(one)
    HubSpotHITL().init_app(two)
    for app in (one, two):
        assert isinstance(app.extensions["hubspot_hitl"], Runtime)
        assert app.test_client().get("/hubspot/healthz").json == {"status": "ok"}
        close_app(app)


def test_a_hosts_register_extension_hook_works(bare: Callable[..., Flask]) -> None:
    class Host(Flask):
        def register_extension(self, extension: Any) -> None:
            extension.init_app(self)

    app = bare(Host)
    assert isinstance(app, Host)
    hitl = HubSpotHITL()
    app.register_extension(hitl)
    with app.app_context():
        assert hitl.get("c1") is None
    close_app(app)


def test_one_object_serves_the_apps_of_a_factory_and_holds_nothing_of_them(bare: Callable[[], Flask]) -> None:
    hitl = HubSpotHITL()
    before = dict(vars(hitl))
    one, two = bare(), bare()
    two.config["HUBSPOT_HITL_URL_PREFIX"] = "/elsewhere"
    hitl.init_app(one)
    hitl.init_app(two)
    assert vars(hitl) == before
    assert one.extensions["hubspot_hitl"] is not two.extensions["hubspot_hitl"]
    assert one.test_client().get("/hubspot/healthz").status_code == 200
    assert two.test_client().get("/hubspot/healthz").status_code == 404
    assert two.test_client().get("/elsewhere/healthz").status_code == 200
    close_app(one)
    close_app(two)


def test_init_twice_is_a_clear_error(bare: Callable[[], Flask]) -> None:
    app = bare()
    HubSpotHITL(app)
    with pytest.raises(RuntimeError, match="already on this app"):
        HubSpotHITL(app)
    close_app(app)


@pytest.mark.parametrize("verb", ["get", "is_active", "transcript", "stop"])
def test_no_init_is_a_clear_error(verb: str) -> None:
    with Flask("empty").app_context(), pytest.raises(RuntimeError, match="Did you forget to call 'init_app"):
        getattr(HubSpotHITL(), verb)("c1")


def test_no_app_context_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match="application context"):
        HubSpotHITL().send("c1", "hello")


def test_wrong_settings_leave_nothing_on_the_app(bare: Callable[[], Flask], tmp_path: Path) -> None:
    app = bare()
    app.config["HUBSPOT_HITL_CLIENT_SECRET"] = None
    with pytest.raises(ConfigError):
        HubSpotHITL(app)
    assert "hubspot_hitl" not in app.extensions
    assert "hubspot_hitl" not in app.blueprints
    assert list(tmp_path.glob("hitl.sqlite3*")) == []


def test_d11_no_client_secret_is_an_error_also_when_testing(bare: Callable[[], Flask]) -> None:
    app = bare()
    app.testing = app.debug = True
    del app.config["HUBSPOT_HITL_CLIENT_SECRET"]
    with pytest.raises(ConfigError, match="CLIENT_SECRET is missing"):
        HubSpotHITL(app)


def test_the_default_database_is_made_in_the_instance_folder(bare: Callable[[], Flask], tmp_path: Path) -> None:
    app = bare()
    app.instance_path = str(tmp_path / "instance")
    del app.config["HUBSPOT_HITL_DATABASE_URL"]
    HubSpotHITL(app)
    assert (tmp_path / "instance" / "hubspot-hitl" / "bare.sqlite3").exists()
    close_app(app)


def test_two_apps_in_one_process_do_not_hear_each_other(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, record: Record, tmp_path: Path
) -> None:
    one = make_app(name="one", dispatcher="inline")
    two = make_app(name="two", dispatcher="inline", database_url=f"sqlite:///{tmp_path}/two.sqlite3")
    heard_one, heard_two = record(one), record(two)
    everywhere: list[Flask] = []

    def hear(sender: Flask, **_: Any) -> None:
        everywhere.append(sender)

    operator_message.connect(hear)
    webhook_rejected.connect(hear)
    serve(one)
    hitl = HubSpotHITL()
    with one.app_context():
        thread_id = hitl.start("c1", contact="rosa@example.test").thread_id
        assert hitl.is_active("c1")
    with two.app_context():
        assert not hitl.is_active("c1")
        assert hitl.send("c1", "hello") is False
    hubspot.act(thread_id, "reply", text="for one")
    heard_one.wait_for("operator_message")
    assert two.test_client().post("/hubspot/webhook", data=b"[]").status_code == 401
    assert set(heard_one.names()) >= {"handoff_started", "operator_message"}
    assert "webhook_rejected" not in heard_one.names()
    assert heard_two.names() == ["webhook_rejected"]
    wait_until(lambda: set(everywhere) == {one, two}, what="both")
    assert {type(app) for app in everywhere} == {Flask}  # the sender is the real app, not a proxy


def test_the_same_event_for_two_apps_is_stored_in_each_ones_own_database(make_app: MakeApp, tmp_path: Path) -> None:
    one = make_app(name="one", dispatcher="external")
    two = make_app(name="two", dispatcher="external", database_url=f"sqlite:///{tmp_path}/two.sqlite3")
    open_handoff(one, "c1")
    event = status_event("CLOSED", at=state_of(one).ledger.now_ms())
    assert signed_post(one, [event]).status_code == signed_post(two, [event]).status_code == 204
    assert state_of(one).intake.counts["stored"] == 1
    assert state_of(two).intake.counts == {"noise": 1}


def test_the_public_names_are_what_all_says() -> None:
    for name in flask_hubspot_hitl.__all__:
        assert getattr(flask_hubspot_hitl, name) is not None


def test_receivers_run_in_an_app_context(make_app: MakeApp, serve: Serve, hubspot: HubSpot) -> None:
    app = make_app(dispatcher="inline")
    serve(app)
    seen: list[str] = []

    def hear(sender: Flask, **_: Any) -> None:
        seen.append(current_app.name)

    operator_message.connect(hear, sender=app)
    with app.app_context():
        handoff = HubSpotHITL().start("c1", contact="rosa@example.test")
    hubspot.act(handoff.thread_id, "reply", text="hello")
    wait_until(lambda: seen == ["bot"], what="the receiver")


def test_importing_costs_no_heavy_library_that_is_only_needed_later() -> None:
    heavy = "{'phonenumbers', 'email_validator', 'nh3', 'rich'}"
    code = f"import sys, flask_hubspot_hitl; print(*sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""


# --- the end ---------------------------------------------------------------------------------------------


def test_close_ends_everything_and_the_verbs_say_so(make_app: MakeApp) -> None:
    app = make_app(dispatcher="thread")
    hitl = HubSpotHITL()
    client = app.test_client()
    assert client.get("/hubspot/healthz").status_code == 200
    dispatcher = state_of(app).dispatcher
    wait_until(lambda: dispatcher.has_started, what="its dispatcher")
    threads = [*dispatcher.pool._threads, dispatcher.pool._clock]
    for _ in range(2):
        with app.app_context():
            hitl.close()
        hitl.close(app)
    assert not any(one is not None and one.is_alive() for one in threads)
    with app.app_context():
        for verb in (hitl.get, hitl.is_active, hitl.transcript, hitl.stop):
            with pytest.raises(LedgerUnavailable, match="closed on this app"):
                verb("c1")
        with pytest.raises(LedgerUnavailable, match="closed on this app"):
            hitl.send("c1", "hello")
        with pytest.raises(LedgerUnavailable, match="closed on this app"):
            hitl.start("c1", contact="+34911222333")
    event = [status_event("CLOSED", at=state_of(app).ledger.now_ms())]
    assert signed_post(app, event).status_code == 503, "HubSpot will send it again"
    assert client.get("/hubspot/healthz").status_code == 503
    assert not any(one is not None and one.is_alive() for one in threads)


@pytest.mark.parametrize("said", ["before", "after"])
def test_while_testing_nothing_starts_before_it_is_needed(make_app: MakeApp, said: str) -> None:
    app = make_app(dispatcher="thread", TESTING=said == "before")
    app.testing = True
    state = state_of(app)
    assert app.test_client().get("/hubspot/healthz").status_code == 200
    with app.app_context():
        assert HubSpotHITL().get("c1") is None
    state.dispatcher._start_now(threading.get_ident)  # as its timer does
    assert not state.dispatcher.has_started
    database = state.ledger._database
    assert (len(database.connections.warm), database.engine.pool.checkedin()) == (0, 0)  # type: ignore[attr-defined]
    assert signed_post(app, [status_event("CLOSED", at=0)]).status_code == 204
    state.dispatcher.wake()
    assert state.dispatcher.has_started, "something may be due now"


def test_a_receiver_lives_as_long_as_its_app(bare: Callable[[], Flask]) -> None:
    def make() -> Flask:
        app = bare()
        HubSpotHITL(app)

        @operator_message.connect_via(app)
        def uses_its_app(sender: Flask, **extra: Any) -> None:
            app.logger.info("heard")

        return app

    made = [make()]
    gc.collect()
    [(_, found)] = receivers_of("operator_message", made[0])
    gone, receiver = weakref.ref(made.pop()), weakref.ref(found)
    del found
    gc.collect()
    assert (gone(), receiver()) == (None, None)


def test_what_is_disconnected_is_not_kept(bare: Callable[[], Flask]) -> None:
    app = bare()
    HubSpotHITL(app)

    def receive(sender: Flask, **extra: Any) -> None: ...

    receiver = weakref.ref(receive)
    with operator_message.connected_to(receive, app):
        assert receivers_of("operator_message", app)
    assert not receivers_of("operator_message", app)
    del receive
    gc.collect()
    assert receiver() is None
    close_app(app)
