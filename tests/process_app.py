"""The host app of ``crash_app`` for servers and commands that take a factory; the journal's path is in ``JOURNAL``.

One more receiver does what the agent writes: "wait" until the file ``<journal>.go`` or ``<journal>.go.<its pid>`` is
there, or "kill". The machine's clock seems to be ``CLOCK_AHEAD`` seconds ahead.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import click
from flask import Flask

from flask_hubspot_hitl import operator_message
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.dispatch.dispatcher import START_SECONDS

from . import crash_app


def create_app() -> Flask:
    """The app."""
    journal = os.environ["JOURNAL"]
    ahead_ms = int(os.environ.get("CLOCK_AHEAD", "0")) * 1000
    app = crash_app.create_app(journal, SystemClock(lambda: time.time_ns() // 1_000_000 + ahead_ms))
    go = [Path(f"{journal}.go"), Path(f"{journal}.go.{os.getpid()}")]

    def note(**facts: Any) -> None:
        with open(journal, "a", encoding="utf-8") as file:
            file.write(json.dumps({**facts, "pid": os.getpid()}) + "\n")

    @operator_message.connect_via(app, weak=False)
    def obey(sender: Flask, message: Any, **extra: Any) -> None:
        note(obeys=message.text)
        if message.text == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if message.text == "wait":
            while not any(one.exists() for one in go):
                time.sleep(0.02)
            note(obeyed=message.text)

    @app.cli.command()
    def threads() -> None:
        """Wait until a dispatcher would have started, and tell which threads there are."""
        time.sleep(START_SECONDS + 0.2)
        click.echo(" ".join(one.name for one in threading.enumerate()))

    return app
