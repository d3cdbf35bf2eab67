"""A host that shares its database with us, and migrates it with Flask-Migrate: our tables are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger

HOST = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import make_url

import flask_hubspot_hitl.alembic
from flask_hubspot_hitl import HubSpotHITL

app = Flask(__name__)
url = make_url(os.environ["SHARED"])
if url.get_backend_name() == "postgresql":
    url = url.set(drivername="postgresql+psycopg")
app.config.update(
    SQLALCHEMY_DATABASE_URI=url,
    HUBSPOT_HITL_DATABASE_URL=os.environ["SHARED"],
    HUBSPOT_HITL_CLIENT_SECRET="sim-secret",
    HUBSPOT_HITL_API_BASE_URL="http://127.0.0.1:9",
    HUBSPOT_HITL_PUBLIC_URL="http://127.0.0.1:9",
)
db = SQLAlchemy(app)


class Note(db.Model):
    id = db.Column(db.Integer, primary_key=True)


hook = os.environ["HOOK"]
Migrate(app, db, **({hook: getattr(flask_hubspot_hitl.alembic, hook)} if hook else {}))
HubSpotHITL(app)
"""


def flask(folder: Path, shared: str, hook: str, *command: str) -> str:
    environment = {**os.environ, "SHARED": shared, "HOOK": hook, "FLASK_APP": "host.py"}
    done = subprocess.run(
        [sys.executable, "-m", "flask", *command],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def tables_of_a_new_store(url: str) -> None:
    """None yet: the app makes them."""


def tables_of_an_old_store(url: str) -> None:
    ledger = Ledger(url, SystemClock())
    ledger.create()
    ledger.close()


@pytest.mark.parametrize(
    ("kind", "store", "hook"),
    [
        pytest.param("sqlite", tables_of_a_new_store, "include_name", marks=pytest.mark.slow),
        ("sqlite", tables_of_a_new_store, "include_object"),
        pytest.param("postgresql", tables_of_an_old_store, "include_name", marks=pytest.mark.slow),
        pytest.param("postgresql", tables_of_a_new_store, "", marks=pytest.mark.slow),
    ],
)
def test_a_hosts_migrations_leave_our_tables_alone(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, store: object, hook: str
) -> None:
    pytest.importorskip("flask_migrate")
    url: str = request.getfixturevalue(f"{kind}_url")
    assert callable(store)
    store(url)
    (tmp_path / "host.py").write_text(HOST)
    flask(tmp_path, url, hook, "db", "init")
    flask(tmp_path, url, hook, "db", "migrate", "-m", "first")
    [script] = (tmp_path / "migrations" / "versions").glob("*.py")
    assert "create_table('note'" in script.read_text()
    assert "hitl" not in script.read_text()
    if hook == "include_object":
        return  # the others show the rest
    flask(tmp_path, url, hook, "db", "upgrade")
    assert "No changes in schema detected" in flask(tmp_path, url, hook, "db", "migrate", "-m", "second")
