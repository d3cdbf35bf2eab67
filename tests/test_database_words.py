"""What is wrong with a database is said in words, and no password is (D).

At the start, what waiting does not change is a ``ConfigError``; afterwards everything is a 503.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import ConfigError, HITLError, HubSpotHITL, LedgerUnavailable
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger
from flask_hubspot_hitl.ledger.health import EVERY_SECONDS, PROOF_SECONDS
from flask_hubspot_hitl.ledger.trouble import SQLSTATES, of_refusals
from flask_hubspot_hitl.ledger.url import split_servers

from . import databases
from .conftest import MakeApp
from .databases import Cluster
from .helpers import HubSpot, open_handoff, seconds_of, signed_post, state_of, status_event, wait_until

SECRET = "s3kr-t%40pa%3Ass"
PASSWORDS = ("s3kr", "pa%3Ass", "pa:ss", "t@pa")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server that knows a user with a password, one who may do nothing, and databases in other encodings."""
    with databases.cluster() as made:
        hba = made.folder / "pg_hba.conf"
        hba.write_text(
            "host closed all 127.0.0.1/32 reject\nhost all secure 127.0.0.1/32 scram-sha-256\n" + hba.read_text()
        )
        for statement in (
            "CREATE ROLE secure LOGIN PASSWORD 'right'",
            "CREATE ROLE poor LOGIN",
            "CREATE ROLE crowd LOGIN CONNECTION LIMIT 0",
            "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
            "CREATE DATABASE any TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
            "CREATE DATABASE closed",
            "CREATE DATABASE private",
            "REVOKE CONNECT ON DATABASE private FROM PUBLIC",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",  # before PostgreSQL 15 everybody may
            "SELECT pg_reload_conf()",
        ):
            made.execute(statement.replace("DATABASE any", 'DATABASE "any"'))
        yield made


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def opening(make_app: MakeApp, url: str) -> HITLError:
    """What an app with that database raises at its start, or, where it starts all the same, when it needs it."""

    def use() -> None:
        app = make_app(dispatcher="external", database_url=url)
        assert app.test_client().get("/hubspot/healthz").status_code == 503
        with app.app_context():
            HubSpotHITL().get("c1")

    with pytest.raises((ConfigError, LedgerUnavailable)) as caught:
        use()
    assert not any(part in str(caught.value) for part in PASSWORDS)
    return caught.value


FAULTS = {
    "a wrong password": (f"secure:{SECRET}@{{server}}/postgres", 'password is wrong.*user "secure"'),
    "no password": ("secure@{server}/postgres", "wants a password, and the URL has none"),
    "an unknown user": (f"nobody:{SECRET}@{{server}}/postgres", 'the user is not known.*"nobody"'),
    "an unknown database": (f"postgres:{SECRET}@{{server}}/nowhere", 'no such database.*"nowhere"'),
    "TLS": (f"postgres:{SECRET}@{{server}}/postgres?sslmode=require", "TLS fails"),
    "pg_hba.conf": (f"postgres:{SECRET}@{{server}}/closed", "does not let this user in from here"),
    "no CONNECT": (f"poor:{SECRET}@{{server}}/private", "GRANT CONNECT"),
    "no CREATE": (f"poor:{SECRET}@{{server}}/postgres", "lacks a privilege: GRANT .*permission denied for schema"),
    "LATIN1": (f"postgres:{SECRET}@{{server}}/latin", "LATIN1.*CREATE DATABASE .* ENCODING 'UTF8'"),
    "SQL_ASCII": (f"postgres:{SECRET}@{{server}}/any", "SQL_ASCII.*CREATE DATABASE .* ENCODING 'UTF8'"),
    "an unknown option": (f"postgres:{SECRET}@{{server}}/postgres?sslmodus=require", 'the URL is wrong.*"sslmodus"'),
    "an unknown value": (f"postgres:{SECRET}@{{server}}/postgres?sslmode=perhaps", 'the URL is wrong.*"perhaps"'),
    "an unknown parameter": (f"postgres:{SECRET}@{{server}}/postgres?options=-c%20a_b%3D1", 'the URL is wrong.*"a_b"'),
    "hosts without ports": (
        f"postgres:{SECRET}@/postgres?host=127.0.0.1,127.0.0.2&port=1,2,3",
        "the URL is wrong.*3 port numbers to 2 hosts",
    ),
    "a port of letters": (f"postgres:{SECRET}@127.0.0.1/postgres?port=soon", 'the URL is wrong.*"soon"'),
    "a bad time-out": (f"postgres:{SECRET}@{{server}}/postgres?connect_timeout=soon", "soon"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_waiting_does_not_change_is_a_config_error(fault: str, make_app: MakeApp, cluster: Cluster) -> None:
    url, wanted = FAULTS[fault]
    error = opening(make_app, "postgresql://" + url.format(server=cluster.server))
    assert re.search(wanted, str(error))
    assert isinstance(error, ConfigError)
    assert "HUBSPOT_HITL_DATABASE_URL" in str(error)
    assert "just now" not in str(error)


def closed(app: Flask) -> int:
    """How a webhook is answered that has to be stored."""
    status: int = signed_post(app, [status_event("CLOSED", at=state_of(app).ledger.now_ms())]).status_code
    return status


def forget(app: Flask, value: str = "") -> None:
    """Write something."""
    with state_of(app).ledger.write() as tx:
        tx.set_meta("name", value)


def test_the_statement_that_is_told_makes_a_database_that_works(cluster: Cluster, make_app: MakeApp) -> None:
    told = re.search("CREATE DATABASE .*$", str(opening(make_app, f"postgresql://postgres@{cluster.server}/latin")))
    assert told is not None
    cluster.execute(told[0])
    app = make_app(dispatcher="external", database_url=f"postgresql://postgres@{cluster.server}/latin_utf8")
    with state_of(app).ledger.write() as tx:
        tx.set_meta("name", "Łukasz 🙂")
        assert tx.get_meta("name") == "Łukasz 🙂"


def test_a_client_encoding_of_the_environment_s_is_not_used(
    cluster: Cluster, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    app = make_app(dispatcher="external", database_url=cluster.url)
    with state_of(app).ledger.write() as tx:
        tx.set_meta("name", "Łukasz 🙂")


@pytest.mark.parametrize(
    ("user", "server", "wanted"),
    [
        ("crowd", "{server}", "no connection left.*too many connections"),
        ("postgres", "127.0.0.1:1", "nobody listens there.*port 1 .*refused"),
        ("postgres", "127.0.0.1:1,no-such-host.invalid", "nobody listens there.*host is not known"),
        ("postgres", "no-such-host.invalid", "host is not known: check the name.*no-such-host.invalid"),
    ],
)
def test_what_may_pass_is_no_config_error(
    user: str, server: str, wanted: str, make_app: MakeApp, cluster: Cluster
) -> None:
    error = opening(make_app, f"postgresql://{user}:{SECRET}@{server.format(server=cluster.server)}/postgres")
    assert isinstance(error, LedgerUnavailable)
    assert "just now" in str(error)
    assert re.search(wanted, str(error))


def test_a_server_that_says_nothing(make_app: MakeApp) -> None:
    with silent_server() as silent:
        error = opening(make_app, f"postgresql://u:{SECRET}@{silent}/d?connect_timeout=2")
    assert re.search(r"just now: no server answers there \(127.0.0.1: .*time", str(error))


def test_the_server_that_answers_is_found_behind_one_that_does_not(cluster: Cluster) -> None:
    with silent_server() as silent:
        ledger = Ledger(f"postgresql://postgres@{silent},{cluster.server}/postgres", SystemClock())
        try:
            ledger.create()

            def connect() -> None:
                with contextlib.closing(ledger.watch(print)) as watch:
                    watch.wait(0)

            assert seconds_of(connect, less_than=1) < 1, "and it is asked first"
        finally:
            ledger.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1/postgres?port={port}",
        "127.0.0.1:1/postgres?port={port}",
        "no-such-host.invalid/postgres?host=127.0.0.1&port={port}",
        "no-such-host.invalid:{port}/postgres?host=127.0.0.1",
        "no-such-host.invalid:1/postgres?host=127.0.0.1:{port}",
        "127.0.0.1,127.0.0.2/postgres?port={port}",
        "127.0.0.1,127.0.0.1/postgres?port=1,{port}",
        "no-such-host.invalid/postgres?hostaddr=127.0.0.1&port={port}",
        "/postgres?host=127.0.0.1,127.0.0.1&port=1,{port}",
        "/postgres?host=127.0.0.1:1&host=127.0.0.1:{port}",
    ],
)
def test_what_the_query_says_of_the_server_holds(address: str, cluster: Cluster) -> None:
    port = cluster.server.rpartition(":")[2]
    with contextlib.closing(Ledger("postgresql://postgres@" + address.format(port=port), SystemClock())) as ledger:
        ledger.create()


def test_each_server_may_have_a_port() -> None:
    wanted = [("h1", "5432"), ("h2", ""), ("::1", "1"), ("/run/pg", "")]
    assert split_servers("postgresql://u:p@h1:5432,h2,[::1]:1,%2Frun%2Fpg/db?a=b") == (
        "postgresql://u:p@/db?a=b",
        wanted,
    )
    assert split_servers("postgresql:///db?host=/run/pg") == ("postgresql:///db?host=/run/pg", [])


def test_privileges_that_are_revoked_at_run_time(cluster: Cluster, make_app: MakeApp) -> None:
    cluster.execute("CREATE DATABASE ours OWNER secure")
    app = make_app(dispatcher="external", database_url=f"postgresql://secure:right@{cluster.server}/ours")
    open_handoff(app, "c1")
    tables = cluster.execute("SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'hitl%'", "ours")
    try:
        for schema, table in tables:
            cluster.execute(f"REVOKE ALL ON {schema}.{table} FROM secure", "ours")
        with pytest.raises(LedgerUnavailable, match=r"privilege: GRANT .*permission denied for table"):
            forget(app)
        assert app.test_client().get("/hubspot/healthz").status_code == 503
        assert closed(app) == 503
    finally:
        for schema, table in tables:
            cluster.execute(f"GRANT ALL ON {schema}.{table} TO secure", "ours")
    wait_until(lambda: app.test_client().get("/hubspot/healthz").status_code == 200)


def test_tables_that_are_dropped_at_run_time(make_app: MakeApp, postgresql_url: str) -> None:
    import sqlalchemy as sa

    app = make_app(dispatcher="external", database_url=postgresql_url)
    open_handoff(app, "c1")
    engine = sa.create_engine(postgresql_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        for schema, table in connection.exec_driver_sql(
            "SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'hitl%%'"
        ).all():
            connection.exec_driver_sql(f"DROP TABLE {schema}.{table}")
    assert closed(app) == 503
    with pytest.raises(LedgerUnavailable, match="restart this process"):
        forget(app)


def test_a_connection_whose_statements_are_out_of_date_is_dropped(postgresql_url: str) -> None:
    """As after another process has migrated; psycopg prepares what comes often."""
    import psycopg

    ledger = Ledger(postgresql_url, SystemClock())
    ledger.create()

    def look() -> None:
        with ledger.read() as tx:
            tx.get_meta("schema_version")

    try:
        for _ in range(10):
            look()
        with psycopg.connect(postgresql_url, autocommit=True) as admin:
            found = admin.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'hitl_meta'").fetchone()
            assert found is not None
            admin.execute(f"ALTER TABLE {found[0]}.hitl_meta ALTER value TYPE varchar(9999)".encode())
        with pytest.raises(LedgerUnavailable, match="just now: the tables were changed meanwhile"):
            look()
        look()
    finally:
        ledger.close()


def test_a_faulty_statement_is_still_a_bug(database_url: str) -> None:
    ledger = Ledger(database_url, SystemClock())
    ledger.create()
    try:
        with pytest.raises(Exception, match=r"(?i)constraint|null") as caught, ledger.write() as tx:
            tx.set_meta("name", None)  # type: ignore[arg-type]
        assert not isinstance(caught.value, LedgerUnavailable)
    finally:
        ledger.close()


def test_what_an_unknown_line_says_is_passed_on() -> None:
    error = of_refusals(["connection failed: FATAL: das Licht ist aus\n\tmehr"]).error()
    assert str(error) == "the database can't be used: no connection (FATAL: das Licht ist aus)"


def test_every_sqlstate_of_the_table_is_one_of_postgresql_s() -> None:
    from psycopg.errors import lookup

    for state in SQLSTATES:
        assert len(state) == 2 or lookup(state).sqlstate == state


# --- without the driver ----------------------------------------------------------------------------------

HIDE = "import sys; sys.modules['psycopg'] = None; sys.argv[0] = 'flask'; from flask.cli import main; main()"
"""As where psycopg is not installed."""


@pytest.mark.parametrize("command", ["status", "doctor", "worker"])
def test_without_psycopg_commands_say_what_to_install(command: str, hubspot: HubSpot, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom flask_hubspot_hitl import HubSpotHITL\napp = Flask(__name__)\n"
        "app.config.from_prefixed_env()\napp.config.from_prefixed_env('')\nHubSpotHITL(app)\n"
    )
    env = {
        **os.environ,
        **{f"FLASK_{name}": json.dumps(value) for name, value in hubspot.env().items()},
        "FLASK_HUBSPOT_HITL_PUBLIC_URL": "https://bot.example.com",
        "FLASK_HUBSPOT_HITL_DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
    }
    arguments = ["--app", "app:app", "hubspot-hitl", command]
    done = subprocess.run(
        [sys.executable, "-c", HIDE, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'Flask-HubSpot-HITL[postgresql]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert ("HH201" in done.stdout) is (command == "doctor")
    assert not any(part in done.stdout + done.stderr for part in PASSWORDS)


# --- SQLite ----------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("Dear diary, " * 1000)
    error = opening(make_app, f"sqlite:///{tmp_path}/note.txt")
    assert isinstance(error, ConfigError)
    assert "is no SQLite database (SQLITE_NOTADB" in str(error)


def test_a_folder_in_place_of_a_file(make_app: MakeApp, tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    error = opening(make_app, f"sqlite:///{tmp_path}/")
    assert isinstance(error, ConfigError)
    assert "is a folder: name a file in it" in str(error)
    assert tmp_path.stat().st_mode & 0o777 == 0o750, "nothing was done to it"


def test_a_file_that_is_locked(sqlite_url: str, make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", database_url=sqlite_url)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(LedgerUnavailable, match="just now: another program holds a lock on the file"):
            forget(app)
    finally:
        other.close()


def test_a_file_that_is_damaged(sqlite_url: str, make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", database_url=sqlite_url)
    state_of(app).close()
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (path.stat().st_size - 100))
    error = opening(make_app, sqlite_url)
    assert re.search(r"can't be used: the file is damaged: .*SQLITE_CORRUPT", str(error))


def test_a_file_system_that_is_read_only(make_app: MakeApp) -> None:
    with small_disk() as folder:
        app = make_app(dispatcher="external", database_url=f"sqlite:///{folder}/hitl.sqlite3")
        state_of(app).close()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        error = opening(make_app, f"sqlite:///{folder}/hitl.sqlite3")
        assert re.search("(?i)read-only file system", str(error))


def test_a_full_disk(make_app: MakeApp) -> None:
    with small_disk() as folder:
        app = make_app(dispatcher="external", database_url=f"sqlite:///{folder}/hitl.sqlite3")
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        with pytest.raises(LedgerUnavailable, match=r"can't be used: the disk (is full|fails, or is full)"):
            forget(app, "x" * 1_000_000)
        assert app.test_client().get("/hubspot/healthz").status_code == 503


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """A disk of a megabyte, where one can be mounted."""
    folder = databases.short_folder("hitl-disk-")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


# --- healthz ---------------------------------------------------------------------------------------------


def commits(url: str) -> Callable[[], int]:
    """Counts a SQLite file's commits by others, two at once as one."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    return lambda: int(connection.execute("PRAGMA data_version").fetchone()[0])


def test_healthz_writes_once_a_second_and_leaves_nothing(sqlite_url: str, make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", database_url=sqlite_url)
    client, version = app.test_client(), commits(sqlite_url)
    began, before = time.monotonic(), version()
    seen = set()
    while time.monotonic() < began + 2.5 * EVERY_SECONDS:
        assert client.get("/hubspot/healthz").status_code == 200
        seen.add(version())
    assert 2 <= len(seen - {before}) <= 2 + (time.monotonic() - began) / EVERY_SECONDS
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    assert connection.execute("SELECT count(*) FROM hitl_meta WHERE name LIKE 'proof%'").fetchone() == (0,)
    connection.close()


@pytest.mark.slow
def test_nobody_but_one_waits_for_a_database_that_hangs(sqlite_url: str, make_app: MakeApp) -> None:
    app = make_app(dispatcher="external", database_url=sqlite_url)
    assert ask(app) == 200
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        wait_until(lambda: ask(app) == 503, what="the lock to be noticed")
        time.sleep(EVERY_SECONDS)  # so long the answer is not asked for again
        first = threading.Thread(target=ask, args=[app])
        first.start()
        took = seconds_of(lambda: [ask(app) for _ in range(20)], less_than=PROOF_SECONDS / 2)
        first.join()
        assert took < PROOF_SECONDS / 2
    finally:
        other.close()
    wait_until(lambda: ask(app) == 200, what="it to be free")


def ask(app: Flask) -> Any:
    return app.test_client().get("/hubspot/healthz").status_code
