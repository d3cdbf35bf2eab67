"""When each kind of webhook arrived last is noted: once a minute, of foreign threads too, and of nobody else's app."""

from __future__ import annotations

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.hubspot.events import Kind
from flask_hubspot_hitl.portals import arrivals

from .conftest import MakeApp
from .helpers import Json, app_event, new_message_event, signed_post, state_of, status_event


def test_each_kind_once_a_minute(make_app: MakeApp, database_url: str, clock: ManualClock) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    ledger = state_of(app).ledger

    def post(*events: Json) -> dict[Kind, int]:
        assert signed_post(app, list(events)).status_code == 204
        with ledger.read() as tx:
            return arrivals.last(tx)

    began = ledger.now_ms()
    seen = post(status_event("CLOSED", at=began), app_event("deletion", at=began), app_event("creation", at=began))
    assert seen.keys() == {Kind.STATUS, Kind.DELETED}
    clock.advance(30)
    later = post(status_event("OPEN", at=began), new_message_event("m1", at=began))
    assert later == seen | {Kind.NEW_MESSAGE: later[Kind.NEW_MESSAGE]}
    assert later[Kind.NEW_MESSAGE] >= began + 30_000 - 1
    clock.advance(31)
    assert post(status_event("OPEN", at=began))[Kind.STATUS] > seen[Kind.STATUS]


def test_another_apps_prove_nothing(make_app: MakeApp, clock: ManualClock) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    now = state_of(app).ledger.now_ms()
    assert signed_post(app, [status_event("CLOSED", at=now, appId=9999)]).status_code == 204
    with state_of(app).ledger.read() as tx:
        assert arrivals.last(tx) == {}


def test_another_address_or_other_files_make_what_arrived_no_proof(make_app: MakeApp, clock: ManualClock) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    ledger = state_of(app).ledger

    def seen() -> set[Kind]:
        with ledger.read() as tx:
            return set(arrivals.last(tx))

    def post() -> None:
        clock.advance(61)
        assert signed_post(app, [status_event("CLOSED", at=ledger.now_ms())]).status_code == 204
        assert seen() == {Kind.STATUS}

    post()
    with ledger.write() as tx:
        arrivals.serve(tx, ["https://a.example", "https://old.example"])
        arrivals.forget(tx)
    assert seen() == set()
    post()
    with ledger.write() as tx:
        arrivals.serve(tx, ["https://a.example"])
    assert seen() == {Kind.STATUS}, "the first address, HubSpot's target, is the same"
    with ledger.write() as tx:
        arrivals.serve(tx, ["https://b.example", "https://a.example"])
    assert seen() == set()
    post()
