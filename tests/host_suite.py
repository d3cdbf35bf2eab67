"""A host's test suite that makes an app in each of its tests; ``test_many_apps`` runs it in a process of its own.

``APPS`` is how many; ``CLOSES`` is whether each is closed; ``WORKS`` is whether each takes a webhook, starts and sends;
``TOLD`` is where to write how many threads and files the process has at its beginning, at its end, and at most.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, operator_message
from flask_hubspot_hitl.clock import to_datetime
from flask_hubspot_hitl.hubspot import signature
from flask_hubspot_hitl.runtime import get_runtime
from flask_hubspot_hitl.testing.payloads import channel_event

APPS = int(os.environ["APPS"])
CLOSES, WORKS, TESTING = (bool(os.environ.get(name)) for name in ("CLOSES", "WORKS", "IS_TESTING"))
PHONE = "+34911222333"

TOLD: pytest.StashKey[list[tuple[int, int]]] = pytest.StashKey()

hitl = HubSpotHITL()


def create_app(folder: Path) -> Flask:
    """As hosts do: the handler is an inner function that uses the app."""
    app = Flask("bot", instance_path=str(folder))
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
    app.config["TESTING"] = TESTING
    app.config["HEARD"] = []
    hitl.init_app(app)

    @operator_message.connect_via(app)
    def show(sender: Flask, message: Any, **extra: Any) -> None:
        app.config["HEARD"].append(message.text)

    return app


def counts() -> tuple[int, int]:
    """How many threads and open files this process has."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[tuple[int, int]]:
    """What was counted at the beginning and after each test."""
    create_app(tmp_path_factory.mktemp("first"))  # loads what is loaded with the first app
    found = request.config.stash[TOLD] = [settled((1, 30))]
    request.config.pluginmanager.register(Teller())
    return found


def settled(wanted: tuple[int, int]) -> tuple[int, int]:
    """What is there when no more is than ``wanted``, or after a while."""
    ends = time.monotonic() + 30
    gc.collect()
    while any(now > then for now, then in zip(counts(), wanted, strict=True)) and time.monotonic() < ends:
        time.sleep(0.05)
        gc.collect()
    return counts()


class Teller:
    """A plugin: when the run is over nothing of pytest's has the last test's app any more."""

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Write down what was counted."""
        found = config.stash[TOLD]
        most = [max(one) for one in zip(*found, strict=True)]
        Path(os.environ["TOLD"]).write_text(json.dumps([found[0], settled(found[0]), most]))


@pytest.fixture
def app(tmp_path: Path, told: list[tuple[int, int]]) -> Iterator[Flask]:
    """The app of one test."""
    made = create_app(tmp_path)
    yield made
    told.append(counts())
    if CLOSES:
        hitl.close(made)


@pytest.mark.parametrize("number", range(APPS))
def test_one(app: Flask, number: int) -> None:
    """One of many."""
    client = app.test_client()
    assert client.get("/hubspot/healthz").status_code == 200
    if not WORKS:
        return
    with app.app_context():
        handoff = hitl.start(f"c{number}", contact=PHONE)
        assert hitl.send(f"c{number}", "hello")
    runtime = get_runtime(app)
    with runtime.ledger.read() as tx:
        record = tx.records.open_of(f"c{number}")
    assert record is not None
    event = channel_event(
        f"m{number}",
        thread=str(handoff.thread_id),
        integration_threads=[record.integration_thread_id],
        created=to_datetime(runtime.ledger.now_ms()).isoformat(timespec="milliseconds"),
    )
    body = json.dumps(event).encode()
    settings = runtime.settings
    headers = signature.headers(
        "v3",
        secret=settings.client_secret[0],
        uri=settings.webhook_urls()[0],
        body=body,
        timestamp=runtime.ledger.now_ms(),
    )
    assert client.post("/hubspot/webhook", data=body, headers=headers).status_code == 204
    ends = time.monotonic() + 60
    while not app.config["HEARD"] and time.monotonic() < ends:
        time.sleep(0.005)
    assert app.config["HEARD"]
