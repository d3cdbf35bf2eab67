"""The webhook route: what is answered, what is stored, what is said (rules B1, B3, B4, B5, D; D04, D11–D16, D24)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, webhook_rejected
from flask_hubspot_hitl.clock import ManualClock, to_datetime
from flask_hubspot_hitl.dispatch.seldom import Seldom
from flask_hubspot_hitl.handoffs import rules
from flask_hubspot_hitl.hubspot.signature import sign
from flask_hubspot_hitl.ledger import EventState
from flask_hubspot_hitl.ledger.schema import event

from .conftest import MakeApp, Serve, close_app
from .databases import slow_on_postgresql
from .helpers import (
    CHANNEL,
    PORTAL,
    HubSpot,
    Recorder,
    assigned_event,
    begin_handoff,
    channel_event,
    new_message_event,
    open_handoff,
    seconds_of,
    signature_headers,
    signed_post,
    state_of,
    status_event,
    wait_until,
)

Record = Callable[[Flask], Recorder]
SECRET = "sim-client-secret-0001"


@pytest.fixture
def app(make_app: MakeApp, clock: ManualClock) -> Flask:
    """Takes webhooks and does nothing with them; one conversation is open."""
    app = make_app(dispatcher="external", clock=clock)
    open_handoff(app, "c1")
    return app


def count(app: Flask, state: EventState = EventState.PENDING) -> int:
    with state_of(app).ledger.read() as tx:
        return tx.count(state)


def lanes(app: Flask) -> set[str | None]:
    with state_of(app).ledger.read() as tx:
        return set(tx._connection.scalars(sa.select(event.c.lane).where(event.c.state == 0)))


def closed(app: Flask, **fields: Any) -> dict[str, Any]:
    return status_event("CLOSED", at=state_of(app).ledger.now_ms(), **fields)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "flask_hubspot_hitl.web.webhook"]


# --- accepted --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("database_url")
def test_a_signed_event_of_our_thread_is_stored_and_answered_204(app: Flask) -> None:
    before = count(app)
    answer = signed_post(app, [closed(app)])
    assert (answer.status_code, answer.data) == (204, b"")
    assert count(app) == before + 1


def test_an_empty_batch_is_accepted(app: Flask) -> None:
    assert signed_post(app, []).status_code == 204


def test_rotated_secrets_are_both_accepted(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", client_secret=["new-secret", "old-secret"])
    for secret, status in {"new-secret": 204, "old-secret": 204, "older": 401, "new-secret,old-secret": 401}.items():
        assert signed_post(app, [], secret=secret).status_code == status


def test_b1_every_public_url_of_a_moving_domain_is_accepted(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", public_url=["https://new.example", "https://old.example/app"])
    for uri, status in {
        "https://new.example/hubspot/webhook": 204,
        "https://old.example/app/hubspot/webhook": 204,
        "https://old.example/hubspot/webhook": 401,
        "http://new.example/hubspot/webhook": 401,
        "https://new.example:443/hubspot/webhook": 401,
        "https://new.example/hubspot/webhook/": 401,
        "https://evil.example/hubspot/webhook": 401,
    }.items():
        assert signed_post(app, [], uri=uri).status_code == status, uri


def test_b1_a_mount_prefix_is_part_of_the_public_url(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", public_url="https://x.example/tenant/a", url_prefix="/hs")
    assert state_of(app).settings.webhook_urls() == ("https://x.example/tenant/a/hs/webhook",)
    mounted = {"SCRIPT_NAME": "/tenant/a", "PATH_INFO": "/hs/webhook"}
    assert signed_post(app, [], environ_overrides=mounted).status_code == 204
    assert signed_post(app, []).status_code == 204  # a proxy that strips the prefix


@pytest.mark.parametrize(
    "query", ["next=%2Finbox%3Fa%3D1&who=a%40b.test&sp=x%20y", "a=1&b=2", "q=%2f%3a", "q=%252F", "q=a+b", "=", "%20"]
)
def test_b1_d16_the_raw_query_string_is_signed_with_hubspots_decodings(app: Flask, query: str) -> None:
    uri = f"{state_of(app).settings.webhook_urls()[0]}?{query}"
    assert signed_post(app, [], uri=uri).status_code == 204
    wrong = signed_post(app, [], uri=uri, query_string=query + "&more=1")
    assert wrong.status_code == 401


def test_b1_d16_the_published_vector_with_escapes_verifies(make_app: MakeApp) -> None:
    body = (
        b'[{"eventId":9001,"subscriptionId":77,"portalId":424242,"appId":3131,"occurredAt":1790000000000,'
        b'"subscriptionType":"conversation.propertyChange","attemptNumber":0,"objectId":5551212,'
        b'"propertyName":"status","propertyValue":"CLOSED"}]'
    )
    app = make_app(
        dispatcher="external",
        clock=ManualClock(1_790_000_001_000),
        public_url="https://bot.example.test",
        client_secret="demo-client-secret-0001",
    )
    answer = app.test_client().post(
        "/hubspot/webhook",
        data=body,
        query_string="next=%2Finbox%3Fa%3D1&who=a%40b.test&sp=x%20y",
        headers={
            "X-HubSpot-Signature-v3": "Htk2h3J0EJOIipXK7Qn8QB++FmX9UPuAjFQUqMjeV7g=",
            "X-HubSpot-Request-Timestamp": "1790000001000",
        },
    )
    assert answer.status_code == 204


def test_b1_host_and_forwarded_headers_are_not_believed(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", public_url="https://bot.example.test")
    lies = {
        "Host": "evil.test",
        "X-Forwarded-Host": "evil.test",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/x",
        "Forwarded": "host=evil.test",
        "X-Original-URL": "/other",
    }
    assert signed_post(app, [], headers=lies).status_code == 204
    assert signed_post(app, [], headers=lies, uri="https://evil.test/hubspot/webhook").status_code == 401


def test_non_ascii_bodies_verify(app: Flask) -> None:
    assert signed_post(app, [closed(app, note="Olá 👋")]).status_code == 204
    assert signed_post(app, json.dumps([closed(app, note="Olá 👋")], ensure_ascii=False).encode()).status_code == 204


# --- versions --------------------------------------------------------------------------------------------


def test_b1_v1_is_refused_unless_opted_in(app: Flask) -> None:
    assert signed_post(app, [], version="v1").status_code == 401


def test_b1_v1_is_for_arrays_only(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", signature_versions="v3,v1")
    assert signed_post(app, [], version="v1").status_code == 204
    assert signed_post(app, channel_event(), version="v1").status_code == 401
    assert signed_post(app, b'  {"type": "x"}', version="v1").status_code == 401
    assert signed_post(app, b"5", version="v1").status_code == 401


def test_b1_what_v1_brings_is_a_hint_only(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", signature_versions="v3,v1")
    open_handoff(app, "c1")
    signed_post(app, [closed(app)], version="v1")
    with state_of(app).ledger.read() as tx:
        found = [
            json.loads(row[0])
            for row in tx._connection.execute(sa.select(event.c.payload).where(event.c.topic == "status"))
        ]
    assert found == [{"value": "CLOSED", "hint": True}]


@pytest.mark.parametrize("versions", ["v3", "v3,v1"])
def test_b1_v2_is_never_accepted(make_app: MakeApp, versions: str) -> None:
    app = make_app(dispatcher="external", signature_versions=versions)
    body, uri = b"[]", state_of(app).settings.webhook_urls()[0]
    v2 = sign("v2", secret=SECRET, method="POST", uri=uri, body=body)
    for declared in ("v2", "V2", "v1", "v3", ""):
        headers = {"X-HubSpot-Signature": v2, "X-HubSpot-Signature-Version": declared}
        assert app.test_client().post("/hubspot/webhook", data=body, headers=headers).status_code == 401


def test_b1_if_v3_is_there_it_alone_decides(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", signature_versions="v3,v1")
    v1 = {"X-HubSpot-Signature": sign("v1", secret=SECRET, method="POST", uri="", body=b"[]")}
    post = app.test_client().post
    assert post("/hubspot/webhook", data=b"[]", headers=v1).status_code == 204
    for wrong in ("", "x", "%"):
        answer = post("/hubspot/webhook", data=b"[]", headers={**v1, "X-HubSpot-Signature-v3": wrong})
        assert answer.status_code == 401
    assert signed_post(app, [], headers={"X-HubSpot-Signature": "wrong"}).status_code == 204


# --- refused ---------------------------------------------------------------------------------------------


def reasons(app: Flask, record: Record, **more: Any) -> list[dict[str, Any]]:
    heard = record(app)
    answer = signed_post(app, [closed(app)], **more)
    assert answer.status_code == 401
    heard.close()
    return heard.of("webhook_rejected")


@pytest.mark.usefixtures("database_url")
def test_d24_each_401_has_its_reason_and_a_signal_and_writes_nothing(
    app: Flask, clock: ManualClock, record: Record
) -> None:
    now = clock.now_ms()
    before = count(app), count(app, EventState.QUARANTINED)
    cases: dict[str, list[dict[str, Any]]] = {
        "missing": [{"headers": {"X-HubSpot-Signature-v3": ""}}],
        "bad_signature": [
            {"secret": "wrong"},
            {"uri": "https://evil.test/hubspot/webhook"},
            {"headers": {"X-HubSpot-Signature-v3": "é"}},
        ],
        "bad_timestamp": [
            {"headers": {"X-HubSpot-Request-Timestamp": one}}
            for one in ("", "abc", "1e400", "-1", "9" * 20, "1.0", "١")
        ],
        "stale": [{"timestamp": now - 300_001}, {"timestamp": now + 300_001}, {"timestamp": now + 10**12 - 1}],
    }
    for reason, requests_ in cases.items():
        for more in requests_:
            assert reasons(app, record, **more) == [{"reason": reason, "remote_addr": "127.0.0.1"}], more
    assert (count(app), count(app, EventState.QUARANTINED)) == before
    for edge in (now - 300_000, now + 300_000):
        assert signed_post(app, [], timestamp=edge).status_code == 204


def test_d_a_body_changed_by_one_byte_is_refused(app: Flask) -> None:
    uri = state_of(app).settings.webhook_urls()[0]
    headers = signature_headers(b"[]", secret=SECRET, uri=uri, timestamp=state_of(app).ledger.now_ms())
    assert app.test_client().post("/hubspot/webhook", data=b"[ ]", headers=headers).status_code == 401


def test_d_a_401_is_logged_at_most_once_a_minute_and_reason(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50):
        signed_post(app, [], secret="wrong")
        app.test_client().post("/hubspot/webhook", data=b"secret text")
    hint = "; 'flask hubspot-hitl doctor' looks for the cause"
    assert said(caplog) == [f"A webhook was rejected (bad_signature){hint}", "A webhook was rejected (missing)"]


def test_d_one_apps_401_does_not_silence_anothers(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "two"):
        signed_post(make_app(name=name, dispatcher="external"), [], secret="wrong")
    assert len(said(caplog)) == 2


@pytest.mark.parametrize(("ahead", "skew"), [(-3_600_000, "-3600 s"), (3_600_000, "+3600 s")])
def test_d_a_stale_time_with_a_right_signature_says_the_skew(
    app: Flask, clock: ManualClock, caplog: pytest.LogCaptureFixture, ahead: int, skew: str
) -> None:
    signed_post(app, [], timestamp=clock.now_ms() + ahead)
    assert said(caplog) == [f"A webhook was rejected (stale): its time is {skew} from ours; check this machine's clock"]


def test_d_a_raising_receiver_cannot_turn_a_401_into_a_500(
    app: Flask, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(sender: Flask, **_: Any) -> None:
        raise RuntimeError("personal data")

    async def raising_later(sender: Flask, **_: Any) -> None:
        raise ValueError("personal data")

    webhook_rejected.connect(raising, sender=app)
    webhook_rejected.connect(raising_later, sender=app)
    heard = record(app)
    assert signed_post(app, [], secret="wrong").status_code == 401
    assert len(heard.of("webhook_rejected")) == 1
    assert "personal data" not in caplog.text


@pytest.mark.parametrize(
    "body", [b"", b"x", b"5", b'"x"', b"null", b"[", b"\xff", b"[" * 10_000, b'{"a":' * 10_000, b"NaN"]
)
def test_b3_a_signed_body_that_cannot_be_parsed_is_400(app: Flask, body: bytes) -> None:
    assert signed_post(app, body).status_code == 400


def test_b3_too_large_is_413_before_anything_else(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", max_body_bytes=1_000)
    post = app.test_client().post
    assert signed_post(app, b"[" + b" " * 998 + b"]").status_code == 204
    assert signed_post(app, b"[" + b" " * 999 + b"]").status_code == 413
    assert post("/hubspot/webhook", data=b"x" * 1_001).status_code == 413  # unsigned as well
    assert post("/hubspot/webhook", environ_overrides={"CONTENT_LENGTH": "99999999"}).status_code == 413


def test_b3_a_streamed_body_that_grows_too_large_is_413(make_app: MakeApp, serve: Serve) -> None:
    app = make_app(dispatcher="external", max_body_bytes=100_000)
    url = f"{serve(app)}/hubspot/webhook"

    def stream(size: int) -> Any:
        return (b" " * 10_000 for _ in range(size // 10_000))

    def post(size: int) -> int:
        headers = signature_headers(
            b" " * size,
            secret=SECRET,
            uri=state_of(app).settings.webhook_urls()[0],
            timestamp=time.time_ns() // 1_000_000,
        )
        with requests.Session() as session:
            session.trust_env = False
            return session.post(url, data=stream(size), headers=headers, timeout=30).status_code

    assert post(100_000) == 400  # read whole, verified, and not JSON
    assert post(110_000) == 413


def test_b3_our_cap_counts_whatever_the_hosts_own_limit_is(make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", MAX_CONTENT_LENGTH=10)
    assert signed_post(app, [closed(app)]).status_code == 204


def test_b3_over_a_thousand_items_is_413(app: Flask) -> None:
    assert signed_post(app, [{}] * 1_000).status_code == 204
    assert signed_post(app, [{}] * 1_001).status_code == 413


# --- the database is not there ---------------------------------------------------------------------------


def test_b3_a_locked_sqlite_is_503_within_hubspots_five_seconds(app: Flask, sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    def refused() -> None:
        assert signed_post(app, [closed(app)]).status_code == 503

    assert seconds_of(refused, less_than=5) < 5
    assert signed_post(app, [], secret="wrong").status_code == 401  # needs no database
    other.execute("ROLLBACK")
    other.close()
    assert signed_post(app, [closed(app)]).status_code == 204


def test_b3_a_postgresql_that_is_gone_is_503_and_healthz_says_so(
    make_app: MakeApp, postgresql_url: str, postgresql_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    import psycopg

    app = make_app(dispatcher="external", database_url=postgresql_url)
    open_handoff(app, "c1")
    name = postgresql_url.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(postgresql_server, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

        def refused() -> None:
            for _ in range(3):
                assert signed_post(app, [closed(app)]).status_code == 503
            assert app.test_client().get("/hubspot/healthz").status_code == 503

        assert seconds_of(refused, less_than=5) < 5
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    assert signed_post(app, [closed(app)]).status_code == 204
    wait_until(lambda: app.test_client().get("/hubspot/healthz").json == {"status": "ok"}, what="the next proof")
    assert len([line for line in said(caplog) if "could not be stored" in line]) == 1


# --- what concerns us ------------------------------------------------------------------------------------


@slow_on_postgresql
@pytest.mark.usefixtures("database_url")
def test_b4_ten_thousand_events_of_unknown_threads_store_nothing(app: Flask) -> None:
    before = count(app)
    for start in range(0, 10_000, 1_000):
        batch = [closed(app, thread=str(5_000_000 + number)) for number in range(start, start + 1_000)]
        assert signed_post(app, batch).status_code == 204
    assert count(app) == before
    assert count(app, EventState.PARKED) == 0
    assert state_of(app).intake.counts["noise"] == 10_000


@pytest.mark.usefixtures("database_url")
def test_b4_an_unknown_threads_event_is_parked_while_a_handoff_of_its_portal_is_starting(app: Flask) -> None:
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        record = begin_handoff(tx, "c2", now=ledger.now_ms())
    batch = [closed(app, thread="77"), closed(app, thread="78"), closed(app, thread="77", portalId=999)]
    for _ in range(3):
        assert signed_post(app, batch).status_code == 204
    assert signed_post(app, channel_event(thread="77", created="2026-09-01T00:00:00Z")).status_code == 204
    assert count(app, EventState.PARKED) <= 3
    assert state_of(app).intake.counts["noise"] == 3  # the other portal's
    with ledger.write() as tx:
        rules.opened(tx, record, thread_id="77", timeout_ms=0, now=ledger.now_ms())
    assert "in:424242:77" in lanes(app)
    assert "in:424242:78" not in lanes(app)


def test_b4_parking_is_bounded(app: Flask) -> None:
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        begin_handoff(tx, "c2", now=ledger.now_ms())
        parked = {"portal_id": PORTAL, "state": EventState.PARKED, "topic": "status", "sort_at": 0, "received_at": 0}
        rows = [{"dedupe_key": f"k{number}", "thread_id": str(number), **parked} for number in range(9_990)]
        tx._connection.execute(sa.insert(event), rows)
    signed_post(app, [closed(app, thread=str(5_000_000 + number)) for number in range(50)])
    assert count(app, EventState.PARKED) == 10_000
    assert state_of(app).intake.counts["not parked"] == 40


@pytest.mark.usefixtures("database_url")
def test_b4_shuffled_batches_of_parked_and_poisoned_items_do_not_deadlock(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        begin_handoff(tx, "c2", now=ledger.now_ms())
    batch: list[Any] = [closed(app, thread=str(number)) for number in range(60)]
    batch += [{"subscriptionType": [number]} for number in range(60)]

    def work(index: int) -> None:
        mine = batch[::-1] if index % 2 else batch
        for _ in range(3):
            while signed_post(app, mine[index:] + mine[:index]).status_code != 204:  # on a machine that is too busy
                state_of(app).seldom = Seldom()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert "Deadlock" not in caplog.text
    assert (count(app, EventState.PARKED), count(app, EventState.QUARANTINED)) == (60, 60)


def test_b2_another_apps_events_are_not_ours(app: Flask) -> None:
    before = count(app)
    signed_post(app, [closed(app, appId=9999)])
    assert count(app) == before
    assert state_of(app).intake.counts["other app"] == 1


def test_b5_events_older_than_the_dedupe_keys_are_acknowledged_and_ignored(app: Flask, clock: ManualClock) -> None:
    before = count(app)
    week = 7 * 86_400_000
    assert signed_post(app, [status_event("CLOSED", at=clock.now_ms() - week - 1)]).status_code == 204
    assert count(app) == before
    assert signed_post(app, [status_event("CLOSED", at=clock.now_ms() - week)]).status_code == 204
    assert count(app) == before + 1


def test_b5_a_new_message_waits_thirty_seconds_in_a_lane_of_its_own(app: Flask, clock: ManualClock) -> None:
    signed_post(app, [new_message_event("m1", at=clock.now_ms())])
    assert "gap:424242:6300112233" in lanes(app)


def test_b5_a_retried_batch_with_a_higher_attempt_number_is_stored_once(app: Flask) -> None:
    before = count(app)
    for attempt in range(3):
        assert signed_post(app, [closed(app, attemptNumber=attempt)]).status_code == 204
    assert count(app) == before + 1
    assert state_of(app).intake.counts["repeated"] == 2


# --- end to end ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("database_url")
def test_d04_the_same_batch_three_times_and_by_eight_threads_gives_one_signal_each(
    make_app: MakeApp, hubspot: HubSpot, record: Record
) -> None:
    app = make_app()  # the real dispatcher, in threads
    heard = record(app)
    with app.app_context():
        handoff = HubSpotHITL().start("c1", contact="rosa@example.test")
    hubspot.act(handoff.thread_id, "assign")
    thread = hubspot.thread(handoff.thread_id)
    now = state_of(app).ledger.now_ms()
    batch = [assigned_event("A-987", at=now, thread=handoff.thread_id, eventId=1)]
    message = channel_event(
        "m-1",
        thread=str(handoff.thread_id),
        created=to_datetime(now).isoformat(),
        integration_threads=[thread["integrationThreadId"]],
    )

    def deliver(_: int) -> set[int]:
        return {signed_post(app, body).status_code for _ in range(3) for body in (batch, message)}

    assert deliver(0) == {204}
    with ThreadPoolExecutor(8) as pool:
        assert all(found == {204} for found in pool.map(deliver, range(8)))
    signed_post(app, [status_event("CLOSED", at=now + 1, thread=handoff.thread_id)])
    heard.wait_for("conversation_completed")
    told = [name for name in heard.names() if name not in ("handoff_started", "webhook_rejected")]
    assert told == ["operator_assigned", "operator_message", "conversation_completed"]
    assert heard.of("operator_message")[0]["message"].message_id == "m-1"


def test_the_stand_ins_own_deliveries_are_accepted(make_app: MakeApp, serve: Serve, hubspot: HubSpot) -> None:
    app = make_app(dispatcher="external")
    serve(app)
    assert hubspot.deliver([closed(app)], times=2) == [204, 204]
    assert hubspot.deliver(channel_event(), feed="channel") == [204]
    assert hubspot.env()["HUBSPOT_HITL_CHANNEL_ID"] == CHANNEL


def test_healthz(app: Flask) -> None:
    assert app.test_client().get("/hubspot/healthz").json == {"status": "ok"}
    assert app.test_client().post("/hubspot/healthz").status_code == 405
    assert app.test_client().get("/hubspot/webhook").status_code == 405


@pytest.mark.parametrize("csrf_first", [True, False])
def test_flask_wtf_lets_the_webhook_pass_whichever_extension_came_first(
    hubspot: HubSpot, make_app: MakeApp, sqlite_url: str, csrf_first: bool
) -> None:
    from flask_wtf.csrf import CSRFProtect

    app = Flask("csrf")
    app.config.from_mapping(hubspot.env())
    app.config.update(
        SECRET_KEY="x",
        HUBSPOT_HITL_PUBLIC_URL="https://bot.example.test",
        HUBSPOT_HITL_DATABASE_URL=sqlite_url,
        HUBSPOT_HITL_DISPATCHER="external",
    )
    for kind in [CSRFProtect, HubSpotHITL][:: 1 if csrf_first else -1]:
        kind(app)
    app.add_url_rule("/form", view_func=lambda: "ok", methods=["POST"])
    assert signed_post(app, []).status_code == 204
    assert signed_post(app, [], secret="wrong").status_code == 401
    assert app.test_client().post("/form").status_code == 400  # the host's own forms stay protected
    close_app(app)


_SERVER = """
import sys
from flask import Flask
from werkzeug.serving import make_server
from flask_hubspot_hitl import HubSpotHITL
import json
app = Flask("traced")
app.config.from_mapping(json.loads(sys.argv[1]))
HubSpotHITL(app)
sys.path.insert(0, sys.argv[2])
from tests.helpers import open_handoff
open_handoff(app, "c1")
server = make_server("127.0.0.1", int(sys.argv[3]), app)
print("ready", flush=True)
for _ in range(2):
    server.handle_request()
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_b3_it_is_on_disk_before_hubspot_gets_its_2xx(
    make_app: MakeApp, hubspot: HubSpot, tmp_path: Any, sqlite_url: str
) -> None:
    template = make_app(dispatcher="external")  # for its free port and settings
    port = template.config["TEST_PORT"]
    settings = {key: value for key, value in template.config.items() if key.startswith("HUBSPOT_HITL_")}
    settings["HUBSPOT_HITL_DATABASE_URL"] = f"sqlite:///{tmp_path}/traced.sqlite3"
    trace = tmp_path / "trace"
    command = [
        "strace",
        "-f",
        "-qq",
        "-y",
        "-s",
        "40",
        "-e",
        "trace=fdatasync,fsync,sendto,sendmsg,write,pwrite64",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        _SERVER,
        json.dumps(settings),
        os.getcwd(),
        str(port),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if first != "ready\n":
            err = process.communicate(timeout=60)[1]
            if "ptrace" in err.lower():
                pytest.skip("strace may not trace here")
            pytest.fail(err[-2_000:])
        body = json.dumps([status_event("CLOSED", at=time.time_ns() // 1_000_000)]).encode()
        headers = signature_headers(
            body, secret=SECRET, uri=f"http://127.0.0.1:{port}/hubspot/webhook", timestamp=time.time_ns() // 1_000_000
        )
        with requests.Session() as session:
            session.trust_env = False
            for _ in range(2):
                answer = session.post(
                    f"http://127.0.0.1:{port}/hubspot/webhook", data=body, headers=headers, timeout=20
                )
                assert answer.status_code == 204
        process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=60)
    lines = trace.read_text().splitlines()
    answered = next(index for index, line in enumerate(lines) if '"HTTP/1.' in line and " 204 " in line)
    written = max(i for i, line in enumerate(lines[:answered]) if "pwrite64" in line and "sqlite3-wal" in line)
    synced = max(i for i, line in enumerate(lines[:answered]) if "fdatasync" in line and "sqlite3-wal" in line)
    assert written < synced < answered
