"""The store is brought forward from every version there has been, under a lock, and a newer one is left alone."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from flask_hubspot_hitl import HubSpotHITL, LedgerUnavailable
from flask_hubspot_hitl.clock import ManualClock, SystemClock
from flask_hubspot_hitl.handoffs.states import Receipt, SignalState, kind_of
from flask_hubspot_hitl.ledger import Ledger, Step, lanes, schema
from flask_hubspot_hitl.ledger.migrations import STEPS

from .conftest import MakeApp
from .databases import every_database
from .helpers import HubSpot, Json, Recorder, state_of, wait_until
from .slow import few_of

STORES = Path(__file__).parent / "stores"
OLD = [1, 2, 3, 4, 5, 6, 7]
SECRET_KEY = "a secret of the app's"
NOW = 1_789_900_100_000


def engine_of(url: str) -> sa.Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    return sa.create_engine(parsed, poolclass=sa.NullPool)


def statements(name: str) -> list[str]:
    lines = (STORES / name).read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("--"))
    return [one for part in text.split(";\n") if (one := part.strip().rstrip(";"))]


def make_store(url: str, version: int) -> None:
    """A store as that version left it, with a handoff, its queue and a portal's tokens in it.

    Later ones than the first are the first, brought forward by the steps, which are never changed.
    """
    engine = engine_of(url)
    kind = engine.dialect.name
    with engine.begin() as connection:
        for one in [*statements(f"v1.{kind}.sql"), *statements("v1.data.sql")]:
            connection.exec_driver_sql(one)
        for later in range(2, version + 1):
            for step in STEPS[later]:
                if callable(step):
                    step(connection)
                else:
                    connection.exec_driver_sql(step)
            for one in statements(f"v{later}.data.sql"):
                connection.exec_driver_sql(one)
        if kind == "postgresql":
            for table, column in (("hitl_event", "id"), ("hitl_handoff", "seq"), ("hitl_message", "id")):
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), (SELECT max({column}) FROM {table}))"
                )


def shape(url: str) -> Json:
    """Tables, columns and indexes, without the order they were made in."""
    inspector = sa.inspect(engine_of(url))

    def plain(default: object) -> str | None:
        return None if default is None else str(default).partition("::")[0].strip("'\"")

    return {
        table: {
            "columns": {
                one["name"]: (str(one["type"]), one["nullable"], plain(one["default"]))
                for one in inspector.get_columns(table)
            },
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "indexes": sorted((one["name"] or "", one["column_names"]) for one in inspector.get_indexes(table)),
            "unique": sorted(one["column_names"] for one in inspector.get_unique_constraints(table)),
        }
        for table in inspector.get_table_names()
    }


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that is in every table."""
    engine = engine_of(url)
    with engine.connect() as connection:
        return {
            table: sorted((tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")), key=repr)
            for table in sa.inspect(engine).get_table_names()
            if table.startswith("hitl_")
        }


def test_there_is_a_step_to_every_version_and_an_old_store_of_each() -> None:
    assert sorted(STEPS) == list(range(2, schema.VERSION + 1))
    assert list(range(1, schema.VERSION)) == OLD


@every_database
@pytest.mark.parametrize("version", few_of(OLD, OLD[0], OLD[-1]))
def test_a_migrated_store_has_the_shape_of_a_new_one(
    database_url: str, version: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    make_store(database_url, version)
    ledger = Ledger(database_url, SystemClock())
    ledger.create()
    ledger.close()
    migrated = shape(database_url)
    if database_url.startswith("sqlite"):
        fresh_url = f"sqlite:///{tmp_path / 'fresh.sqlite3'}"
    else:
        engine = engine_of(database_url)
        with engine.begin() as connection:
            for table in migrated:
                connection.exec_driver_sql(f"DROP TABLE {table}")
        fresh_url = database_url
    ledger = Ledger(fresh_url, SystemClock())
    ledger.create()
    assert ledger.migrated_from is None
    ledger.close()
    assert shape(fresh_url) == migrated


BRING_UP = """
import sys
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger
ledger = Ledger(sys.argv[1], SystemClock())
print("ready", flush=True)
sys.stdin.readline()
ledger.create()
print(ledger.migrated_from, flush=True)
"""


@every_database
@pytest.mark.parametrize("version", few_of(OLD, OLD[0], OLD[-1]))
def test_two_processes_at_once_migrate_once_and_keep_everything(database_url: str, version: int) -> None:
    make_store(database_url, version)
    before = rows(database_url)
    command = [sys.executable, "-c", BRING_UP, database_url]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in both:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        said = sorted(one.communicate(timeout=60)[0].strip() for one in both)
    finally:
        for one in both:
            one.kill()
            one.communicate()
    assert said == sorted([str(version), "None"])
    after = rows(database_url)
    assert ("schema_version", str(schema.VERSION)) in after["hitl_meta"]
    for table, was in before.items():
        if table == "hitl_meta":
            assert set(was) - {("schema_version", str(version))} <= set(after[table])
        elif table == "hitl_token":
            assert [row[:4] for row in after["hitl_installation"]] == was
        elif table == "hitl_receipt":
            assert table not in after, "they are in the events' progress"
        elif table == "hitl_event":
            assert [(row[:9], row[10 : len(was[0])]) for row in after[table]] == [(row[:9], row[10:]) for row in was]
        else:
            assert [row[: len(was[0])] for row in after[table]] == was if was else after[table] == []


@every_database
@pytest.mark.parametrize("version", few_of(OLD, OLD[0], OLD[-1]))
def test_what_was_going_on_goes_on(
    database_url: str,
    version: int,
    make_app: MakeApp,
    hubspot: HubSpot,
    record: Callable[..., Recorder],
) -> None:
    make_store(database_url, version)
    clock = ManualClock(NOW)
    app = make_app(
        clock=clock, dispatcher="inline", SECRET_KEY=SECRET_KEY, public_url="http://127.0.0.1:9", reopen_window="0"
    )
    assert state_of(app).ledger.migrated_from == version
    hitl = HubSpotHITL()
    seen = record(app)
    with app.app_context():
        handoff = hitl.get("c1")
        assert handoff is not None
        assert handoff.operator is not None
        assert (handoff.thread_id, handoff.operator.name, handoff.attributes) == (
            "6300112233",
            "Noor Haddad",
            {"order": 7},
        )
        assert not hitl.is_active("c0")
        assert [one.text for one in hitl.transcript("c1")] == ["Which order?", "Number seven"]
    state_of(app).dispatcher.run_due()
    assert [one["message"].text for one in seen.of("message_delivered")] == ["Number seven"]
    assert [one["messages"][0]["text"] for one in hubspot.threads()] == ["Number seven"]
    asked = [one["path"] for one in hubspot.requests()]
    assert asked[0].endswith("/messages"), "the stored access token was used first"
    assert any(path.endswith("/token") for path in asked), "and renewed when HubSpot refused it"
    with state_of(app).ledger.read() as tx:
        assert [one["error"] for one in tx.dead_events()] == ["given up"]


@every_database
def test_how_far_receivers_are_is_kept_with_the_event(database_url: str) -> None:
    make_store(database_url, 2)
    ledger = Ledger(database_url, ManualClock(NOW), kind_of=kind_of)
    ledger.create()
    with ledger.write() as tx:
        dead = tx.dead_event(2)
        assert dead is not None
        assert dead["receivers"] == [
            {"receiver": "0:operator_message:bot:handler", "verdict": "dead", "attempts": 12, "error": "RuntimeError"}
        ]
        lease = tx.queue.claim_lane("in:424242:6300112299", owner="me", now=NOW, ttl_ms=1000)
        assert lease is not None
        head = tx.queue.head(lease)
        assert head is not None
        state = head.state(SignalState)
        assert state.receipts == {
            "0:installation_added:bot:first": Receipt(verdict="accepted", attempts=1),
            "0:installation_added:bot:second": Receipt(starts=1, attempts=2, error="OSError"),
        }
        assert state.plan == [Step(signal="installation_added", facts={"portal_id": "424242"})]
    ledger.close()


@every_database
@pytest.mark.parametrize("version", few_of(OLD, OLD[0], OLD[-1]))
def test_each_lane_gets_its_class_and_what_waits_in_it_its_portal(database_url: str, version: int) -> None:
    make_store(database_url, version)
    create(database_url)
    with engine_of(database_url).connect() as connection:
        found = connection.exec_driver_sql("SELECT key, work, portal_id, due_at FROM hitl_lane").all()
    assert {key: work for key, work, _, _ in found} == {key: int(lanes.work_of(key)) for key, _, _, _ in found}
    ours = {"out:bbbb", "in:424242:6300112299", "timer:bbbb:assignment-timeout"}
    assert all(portal == ("424242" if key in ours else "") for key, _, portal, due_at in found if due_at)


def create(url: str) -> int | None:
    """What a process does that starts: the version that it migrated from."""
    with contextlib.closing(Ledger(url, SystemClock())) as ledger:
        ledger.create()
        return ledger.migrated_from


def test_a_process_that_starts_waits_for_nobody_who_writes(postgresql_url: str) -> None:
    create(postgresql_url)
    with engine_of(postgresql_url).connect() as others, ThreadPoolExecutor(1) as pool:
        for table in ("hitl_lane", "hitl_event", "hitl_handoff"):
            others.exec_driver_sql(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")  # as who writes to it
        starting = pool.submit(create, postgresql_url)
        try:
            assert starting.result(10) is None
        finally:
            others.rollback()


def test_who_migrates_tries_again_when_others_write_meanwhile(postgresql_url: str) -> None:
    """PostgreSQL breaks two that wait for each other: here the one that migrates, which has waited longer."""
    make_store(postgresql_url, 2)
    with engine_of(postgresql_url).connect() as others, ThreadPoolExecutor(1) as pool:
        others.exec_driver_sql("SELECT FROM hitl_receipt LIMIT 1")  # which it will drop
        starting = pool.submit(create, postgresql_url)
        with engine_of(postgresql_url).connect() as looking:
            wait_until(lambda: looking.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
        others.exec_driver_sql("LOCK TABLE hitl_event IN ACCESS EXCLUSIVE MODE")  # which it has written to
        others.rollback()
        assert starting.result(60) == 2
    assert create(postgresql_url) is None


@every_database
def test_a_newer_store_is_refused_and_left_as_it_is(database_url: str) -> None:
    ledger = Ledger(database_url, SystemClock())
    ledger.create()
    with ledger.write() as tx:
        tx.set_meta("schema_version", str(schema.VERSION + 1))
    ledger.close()
    engine = engine_of(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE hitl_once")  # gone in that newer version
    before, shaped = rows(database_url), shape(database_url)
    again = Ledger(database_url, SystemClock())
    with pytest.raises(LedgerUnavailable, match=rf"schema {schema.VERSION + 1}, .* knows {schema.VERSION}: upgrade"):
        again.create()
    again.close()
    assert (rows(database_url), shape(database_url)) == (before, shaped)


@every_database
def test_a_step_that_fails_leaves_the_old_store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(database_url, 1)
    before, shaped = rows(database_url), shape(database_url)
    monkeypatch.setitem(STEPS, 2, (*STEPS[2], "CREATE TABLE hitl_meta (name TEXT)"))  # it is there already
    ledger = Ledger(database_url, SystemClock())
    with pytest.raises((LedgerUnavailable, sa.exc.ProgrammingError)):
        ledger.create()
    ledger.close()
    assert (rows(database_url), shape(database_url)) == (before, shaped)
    monkeypatch.undo()
    ledger = Ledger(database_url, SystemClock())
    ledger.create()
    assert ledger.migrated_from == 1
    ledger.close()
