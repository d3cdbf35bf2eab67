"""Where the database is: the instance folder, PostgreSQL's schema of our own, and which store was here before."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.engine import URL, make_url

from flask_hubspot_hitl import ConfigError, HubSpotHITL, LedgerUnavailable
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import SCHEMA, Ledger, locate
from flask_hubspot_hitl.portals.deployment import Deployment

from .conftest import MakeApp
from .helpers import state_of, wait_until


def where(configured: str | None, instance: Path | str, app_name: str = "shop") -> str | None:
    url = locate(configured, instance_path=str(instance), app_name=app_name)
    assert isinstance(url, URL)
    return url.database


def test_the_default_database_is_a_file_of_the_app_in_its_instance_folder() -> None:
    assert where(None, "/srv/instance") == "/srv/instance/hubspot-hitl/shop.sqlite3"
    assert where(None, "/srv/instance", "../etc") == "/srv/instance/hubspot-hitl/-etc.sqlite3"
    assert where(None, "/srv/instance", "") == "/srv/instance/hubspot-hitl/app.sqlite3"
    assert locate("postgresql://h/d", instance_path="/srv", app_name="shop") == "postgresql://h/d"


def test_a_relative_path_is_taken_from_the_instance_folder() -> None:
    assert where("sqlite:///hitl.db", "/srv/instance") == "/srv/instance/hitl.db"
    assert where("sqlite:////var/lib/hitl.db", "/srv/instance") == "/var/lib/hitl.db"


@pytest.mark.parametrize("name", ["what?", "100%", "a#b", "two words", "%41", "%2e%2e", "é", "a&b=c"])
@pytest.mark.parametrize("configured", [None, "sqlite:///hitl.db"])
def test_an_instance_folder_of_any_name_leads_to_itself(tmp_path: Path, name: str, configured: str | None) -> None:
    parent = tmp_path / "apps"
    parent.mkdir()
    url = locate(configured, instance_path=str(parent / name), app_name="bot")
    assert isinstance(url, URL)
    with contextlib.closing(Ledger(url, SystemClock())) as ledger:
        ledger.create()
        with ledger.write() as tx:
            tx.set_meta("n0", "kept")
    assert os.listdir(parent) == [name]
    assert url.database is not None
    assert Path(url.database).stat().st_size > 0


def test_no_database_is_left_behind_where_an_earlier_version_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, instance = tmp_path / "cwd", tmp_path / "instance"
    old.mkdir()
    monkeypatch.chdir(old)
    assert where("sqlite:///hitl.db", instance) == str(instance / "hitl.db")
    (old / "hitl.db").touch()
    with pytest.raises(ConfigError) as refused:
        where("sqlite:///hitl.db", instance)
    assert str(old / "hitl.db") in str(refused.value)
    assert str(instance / "hitl.db") in str(refused.value)
    instance.mkdir()
    (instance / "hitl.db").touch()
    assert where("sqlite:///hitl.db", instance) == str(instance / "hitl.db")


# --- PostgreSQL ------------------------------------------------------------------------------------------


def tables(url: str) -> dict[str, set[str]]:
    """Our tables, by schema."""
    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'hitl%'")
        ).all()
    return {schema: {name for one, name in found if one == schema} for schema, _ in found}


def execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        for one in statements:
            connection.exec_driver_sql(one)


def execute_alone(url: str, *statements: str) -> None:
    """Statements that no transaction may hold."""
    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for one in statements:
            connection.exec_driver_sql(one)


def make(url: str) -> str:
    """A process that starts and writes; the store's id."""
    with contextlib.closing(Ledger(url, SystemClock(), schema=SCHEMA)) as ledger:
        ledger.create()
        with ledger.write() as tx:
            tx.set_meta("n0", "kept")
            tx.queue.reserve("in:1:2", now=1)
        with ledger.read() as tx:
            assert tx.get_meta("n0") == "kept"
        return ledger.deployment_id


def test_a_new_store_has_a_schema_of_its_own(postgresql_url: str) -> None:
    first = make(postgresql_url)
    assert list(tables(postgresql_url)) == [SCHEMA]
    assert make(postgresql_url) == first


def test_tables_that_are_there_stay_where_they_are(postgresql_url: str) -> None:
    with contextlib.closing(Ledger(postgresql_url, SystemClock())) as old:
        old.create()
        first = old.deployment_id
    assert make(postgresql_url) == first
    assert list(tables(postgresql_url)) == ["public"]


def test_a_search_path_that_somebody_chose_holds(postgresql_url: str) -> None:
    default = make(postgresql_url)
    execute(postgresql_url, "CREATE SCHEMA other")
    url = make_url(postgresql_url).update_query_dict({"options": "-csearch_path=other"})
    other = make(url.render_as_string(hide_password=False))
    assert other != default
    assert set(tables(postgresql_url)) == {SCHEMA, "other"}
    assert make(postgresql_url) == default


@pytest.mark.parametrize("others_schema", [False, True])
def test_a_role_that_may_make_no_schema_uses_the_one_it_has(postgresql_url: str, others_schema: bool) -> None:
    parsed = make_url(postgresql_url)
    role = f"role_{parsed.database}"
    if others_schema:
        make(postgresql_url)
    execute(postgresql_url, f"CREATE ROLE {role} LOGIN", f"GRANT USAGE, CREATE ON SCHEMA public TO {role}")
    try:
        make(parsed.set(username=role, password=None).render_as_string(hide_password=False))
        assert len(tables(postgresql_url)["public"]) > 5
    finally:
        execute(postgresql_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# --- Which store was here before -------------------------------------------------------------------------

OWN: dict[str, str] = {
    **dict.fromkeys(("client_secret", "developer_api_key", "refresh_token"), "not the stand-in's"),
    "api_base_url": "https://hubspot.invalid",  # with the stand-in, nothing is lost with a database
    "dispatcher": "external",
}


@pytest.fixture
def make_real(make_app: MakeApp) -> Callable[..., Flask]:
    """Makes apps that might be production's; nobody is called."""
    return lambda **config: make_app(**{**OWN, **config})


def health(app: Flask) -> int:
    """What is answered may have been found out a second ago."""
    return app.test_client().get("/hubspot/healthz").status_code


def send(app: Flask) -> bool:
    with app.app_context():
        return HubSpotHITL().send("c1", "Hello")


def is_healthy(app: Flask) -> bool:
    return health(app) == 200


def test_a_store_that_comes_up_empty_is_noticed_and_takes_nothing_in(
    make_real: Callable[..., Flask], database_url: str, tmp_path: Path
) -> None:
    """Of ``database_url`` (the first store) nothing is left; the second is a file on a disk that came up empty."""
    first = make_real()
    with state_of(first).ledger.read():
        pass
    marker = tmp_path / "instance" / "hubspot-hitl" / "bot.deployment"
    assert marker.read_text().strip() == state_of(first).ledger.deployment_id
    assert marker.stat().st_mode & 0o777 == 0o600
    empty = make_real(database_url=f"sqlite:///{tmp_path / 'not-mounted' / 'hitl.sqlite3'}")
    with empty.app_context(), pytest.raises(LedgerUnavailable, match="flask hubspot-hitl adopt"):
        HubSpotHITL().send("c1", "Hello")
    assert empty.test_client().get("/hubspot/healthz").status_code == 503
    found = empty.test_cli_runner().invoke(args=["hubspot-hitl", "doctor"])
    assert "HH206" in found.output
    adopted = empty.test_cli_runner().invoke(args=["hubspot-hitl", "adopt"])
    assert adopted.exit_code == 0, adopted.output
    wait_until(lambda: health(empty) == 200, what="the store to be taken for ours")
    again = make_real()
    assert again.test_client().get("/hubspot/healthz").status_code == 503


def test_apps_of_one_name_share_an_instance_folder_when_each_store_is_adopted(
    make_real: Callable[..., Flask], tmp_path: Path
) -> None:
    tenants = [make_real(database_url=f"sqlite:///{tmp_path / name / 'hitl.sqlite3'}") for name in "ab"]
    assert [health(one) for one in tenants] == [200, 503]
    adopted = tenants[1].test_cli_runner().invoke(args=["hubspot-hitl", "adopt", "--also"])
    assert adopted.exit_code == 0, adopted.output
    wait_until(lambda: [health(one) for one in tenants] == [200, 200], what="both to be taken for ours")
    third = make_real(database_url=f"sqlite:///{tmp_path / 'c' / 'hitl.sqlite3'}")
    assert health(third) == 503, "a store that nobody knows is still noticed"


def test_where_the_id_can_not_be_kept_nothing_is_left_lying_about(tmp_path: Path) -> None:
    (tmp_path / "bot.deployment").mkdir()
    assert Deployment(tmp_path / "bot.deployment").why_not("one") is None
    assert os.listdir(tmp_path) == ["bot.deployment"]


def test_nothing_is_made_where_a_store_was_before(
    make_real: Callable[..., Flask], database_url: str, tmp_path: Path
) -> None:
    """A disk is not mounted, or a database came up empty: what is started meanwhile goes on once it is put right."""
    first = make_real(database_url=f"sqlite:///{tmp_path / 'disk' / 'hitl.sqlite3'}")
    assert send(first) is False
    state_of(first).close()
    disk = tmp_path / "disk"
    disk.rename(tmp_path / "unmounted")
    server = make_real(database_url=f"sqlite:///{disk / 'hitl.sqlite3'}")
    with pytest.raises(LedgerUnavailable, match=r"this one is empty.*adopt"):
        send(server)
    empty = make_real()
    assert health(empty) == 503
    if database_url.startswith("postgresql"):
        assert tables(database_url) == {}
    shutil.rmtree(disk)
    (tmp_path / "unmounted").rename(disk)
    assert send(server) is False


def test_who_serves_a_postgresql_store_accepts_nothing_into_another_of_its_name(
    make_real: Callable[..., Flask], postgresql_url: str, postgresql_server: str
) -> None:
    name = make_url(postgresql_url).database
    aside, other = f"{name}_aside", f"{name}_other"

    def rename(before: str | None, after: str | None) -> None:
        execute_alone(
            postgresql_server,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{before}'",
            f"ALTER DATABASE {before} RENAME TO {after}",
        )

    worker = make_real(database_url=postgresql_url)
    assert send(worker) is False
    rename(name, aside)
    execute_alone(postgresql_server, f"CREATE DATABASE {name}")
    try:
        with pytest.raises(LedgerUnavailable):
            send(worker)
        with pytest.raises(LedgerUnavailable, match="tables are gone"):
            send(worker)
        recycled = make_real(database_url=postgresql_url)
        for app in (recycled, worker, recycled):
            with pytest.raises(LedgerUnavailable, match="adopt"):
                send(app)
        assert tables(postgresql_url) == {}
        assert make(postgresql_url), "what another app makes there"
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="another store is there now"):
                send(worker)
        rename(name, other)
    finally:
        execute_alone(postgresql_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        rename(aside, name)
        execute_alone(postgresql_server, f"DROP DATABASE IF EXISTS {other} WITH (FORCE)")
    for app in (worker, recycled):
        wait_until(partial(is_healthy, app), what="the old store to be used")
        assert send(app) is False


def test_a_schema_that_is_made_anew_in_the_same_database_is_noticed(
    make_real: Callable[..., Flask], postgresql_url: str
) -> None:
    worker = make_real(database_url=postgresql_url)
    assert send(worker) is False
    execute(postgresql_url, f"ALTER SCHEMA {SCHEMA} RENAME TO away")
    with pytest.raises(LedgerUnavailable):
        send(worker)
    make(postgresql_url)
    with pytest.raises(LedgerUnavailable, match="another store is there now"):
        send(worker)
    execute(postgresql_url, f"DROP SCHEMA {SCHEMA} CASCADE", f"ALTER SCHEMA away RENAME TO {SCHEMA}")
    with contextlib.suppress(LedgerUnavailable):  # a connection may still be the other store's
        send(worker)
    assert send(worker) is False


def test_a_running_server_goes_on_when_its_new_store_is_adopted(
    make_real: Callable[..., Flask], tmp_path: Path
) -> None:
    with state_of(make_real()).ledger.read():
        pass
    new = f"sqlite:///{tmp_path / 'new' / 'hitl.sqlite3'}"
    server, command = make_real(database_url=new), make_real(database_url=new)
    assert server.test_client().get("/hubspot/healthz").status_code == 503
    command.test_cli_runner().invoke(args=["hubspot-hitl", "adopt"])
    wait_until(lambda: health(server) == 200, what="the store to be taken for ours")


def test_tests_may_have_a_store_each(make_real: Callable[..., Flask], tmp_path: Path) -> None:
    for number in range(2):
        app = make_real(TESTING=True, database_url=f"sqlite:///{tmp_path / str(number)}.sqlite3")
        assert app.test_client().get("/hubspot/healthz").status_code == 200
    assert not (tmp_path / "instance" / "hubspot-hitl").exists()


def test_an_instance_folder_that_is_read_only_is_no_hindrance(make_real: Callable[..., Flask], tmp_path: Path) -> None:
    (tmp_path / "instance").touch()  # root may write into any folder, but not into a file's
    app: Flask = make_real()
    assert app.test_client().get("/hubspot/healthz").status_code == 200


def test_trials_may_have_a_store_each(make_app: MakeApp, tmp_path: Path) -> None:
    for number in range(2):
        app = make_app(database_url=f"sqlite:///{tmp_path / str(number)}.sqlite3")
        assert app.test_client().get("/hubspot/healthz").status_code == 200
