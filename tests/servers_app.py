"""A small bot for servers of all kinds: ``tests.servers_app:create_app``, with settings from the environment.

What happens is a line of the file in ``JOURNAL``: each request, and each message of the agent's when its receiver
``begins`` and has ``heard`` it; with the process it happened in. On "hold" the receiver waits until ``<JOURNAL>.go`` is
there.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import click
from flask import Flask, abort, request
from werkzeug.serving import run_simple

from flask_hubspot_hitl import HubSpotHITL, operator_message


def create_app() -> Flask:
    """The app."""
    app = Flask("servers")
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
    hitl = HubSpotHITL(app, serving_commands=["serve"])
    journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(**facts: Any) -> None:
        os.write(journal, json.dumps({**facts, "pid": os.getpid()}).encode() + b"\n")

    @operator_message.connect_via(app, weak=False)
    def hear(sender: Flask, message: Any, **extra: Any) -> None:
        note(begins=message.text)
        while message.text == "hold" and not Path(f"{os.environ['JOURNAL']}.go").exists():
            time.sleep(0.02)
        note(heard=message.text)

    @app.before_request
    def asked() -> None:
        note(request=request.path)

    @app.get("/handoff/<conversation_id>")
    def handoff(conversation_id: str) -> dict[str, Any]:
        found = hitl.get(conversation_id) or abort(404)
        return {"conversation": found.conversation_id, "thread": found.thread_id, "pid": os.getpid()}

    @app.post("/send/<conversation_id>")
    def send(conversation_id: str) -> dict[str, Any]:
        return {"accepted": hitl.send(conversation_id, "Hello")}

    @app.cli.command()
    @click.option("--port", type=int)
    def serve(port: int) -> None:
        """Serve, as a host's own command does."""
        run_simple("127.0.0.1", port, app, threaded=True)

    return app


if __name__ == "__main__":
    create_app().run(port=int(os.environ["PORT"]), debug=True)
