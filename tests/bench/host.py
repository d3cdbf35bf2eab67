"""The apps that are measured, for servers and commands that take a factory; settings come from the environment."""

from __future__ import annotations

import json
import os
import time
from functools import partial
from typing import Any
from unittest import mock

from flask import Flask

from flask_hubspot_hitl import (
    Handoff,
    HubSpotHITL,
    message_delivered,
    operator_assigned,
    operator_message,
    runtime,
)
from flask_hubspot_hitl.ledger import Ledger, Speed

from .public import create_bare as create_bare  # a server is given the name of a factory in here


def create_app() -> Flask:
    """The extension, and receivers that do next to nothing.

    Each signal is one line of ``BENCH_JOURNAL``: when (``time.monotonic``, which all processes share) and of which
    thread. ``BENCH_WORK_SECONDS`` is what a receiver has to do beside that, ``BENCH_SPEED`` the ledger's measures.
    """
    app = Flask("bench")
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
    speed = Speed(**json.loads(os.environ.get("BENCH_SPEED", "{}")))
    with mock.patch.object(runtime, "Ledger", partial(Ledger, speed=speed)):  # no setting: only we choose
        HubSpotHITL(app)
    work = float(os.environ.get("BENCH_WORK_SECONDS", "0"))
    journal = os.open(os.environ.get("BENCH_JOURNAL", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(handoff: Handoff) -> None:
        os.write(journal, b"%.6f %s\n" % (time.monotonic(), str(handoff.thread_id).encode()))
        if work:
            time.sleep(work)

    @operator_assigned.connect_via(app, weak=False)
    def on_assigned(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note(handoff)

    @operator_message.connect_via(app, weak=False)
    def on_message(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note(handoff)

    @message_delivered.connect_via(app, weak=False)
    def on_delivered(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note(handoff)

    return app
