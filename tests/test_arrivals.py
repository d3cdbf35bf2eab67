"""When each kind of webhook arrived last is noted: once an hour, of foreign threads too, and of nobody else's app."""

from __future__ import annotations

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.handoffs import arrivals
from flask_hubspot_hitl.hubspot.events import Kind

from .conftest import MakeApp
from .helpers import Json, app_event, new_message_event, signed_post, state_of, status_event


def test_each_kind_once_an_hour(make_app: MakeApp, database_url: str, clock: ManualClock) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    ledger = state_of(app).ledger

    def post(*events: Json) -> dict[Kind, int]:
        assert signed_post(app, list(events)).status_code == 204
        with ledger.read() as tx:
            return arrivals.last(tx)

    began = ledger.now_ms()
    seen = post(status_event("CLOSED", at=began), app_event("deletion", at=began), app_event("creation", at=began))
    assert seen.keys() == {Kind.STATUS, Kind.DELETED}
    clock.advance(1800)
    later = post(status_event("OPEN", at=began), new_message_event("m1", at=began))
    assert later == seen | {Kind.NEW_MESSAGE: later[Kind.NEW_MESSAGE]}
    assert later[Kind.NEW_MESSAGE] >= began + 1_800_000 - 1
    clock.advance(1801)
    assert post(status_event("OPEN", at=began))[Kind.STATUS] > seen[Kind.STATUS]


def test_another_apps_prove_nothing(make_app: MakeApp, clock: ManualClock) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    now = state_of(app).ledger.now_ms()
    assert signed_post(app, [status_event("CLOSED", at=now, appId=9999)]).status_code == 204
    with state_of(app).ledger.read() as tx:
        assert arrivals.last(tx) == {}
