"""A host app in a process of its own, for tests that kill it: ``python -m tests.crash_app PORT JOURNAL``.

Settings come from the environment. Every signal heard is one line of the journal, written with a single
``write(O_APPEND)``: the kernel has it whatever becomes of the process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from flask import Flask, request
from werkzeug.serving import make_server

from flask_hubspot_hitl import (
    HubSpotHITL,
    LedgerUnavailable,
    conversation_completed,
    message_failed,
    operator_assigned,
    operator_message,
)
from flask_hubspot_hitl.clock import Clock


def create_app(journal: str, clock: Clock | None = None) -> Flask:
    """The app: two routes for the test, three receivers."""
    app = Flask("crash")
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
    hitl = HubSpotHITL(app, clock=clock)
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(**facts: Any) -> None:
        os.write(file, json.dumps(facts).encode() + b"\n")

    @operator_assigned.connect_via(app, weak=False)
    def on_assigned(sender: Flask, handoff: Any, operator: Any, **extra: Any) -> None:
        note(signal="assigned", conversation=handoff.conversation_id, operator=operator.actor_id)

    @operator_message.connect_via(app, weak=False)
    def on_message(sender: Flask, handoff: Any, message: Any, **extra: Any) -> None:
        note(signal="message", conversation=handoff.conversation_id, id=message.message_id, text=message.text)

    @conversation_completed.connect_via(app, weak=False)
    def on_completed(sender: Flask, handoff: Any, **extra: Any) -> None:
        note(signal="completed", conversation=handoff.conversation_id)

    @message_failed.connect_via(app, weak=False)
    def on_failed(sender: Flask, message: Any, **extra: Any) -> None:
        note(signal="failed", id=message.message_id)

    @app.post("/start")
    def start() -> dict[str, Any]:
        handoff = hitl.start(**request.get_json())
        return {"thread_id": handoff.thread_id, "state": handoff.state}

    @app.post("/send")
    def send() -> dict[str, Any]:
        return {"accepted": hitl.send(**request.get_json())}

    @app.errorhandler(LedgerUnavailable)
    def unavailable(error: LedgerUnavailable) -> tuple[dict[str, str], int]:
        return {"error": "LedgerUnavailable"}, 503

    return app


def main() -> None:
    """Serve until killed."""
    port, journal = int(sys.argv[1]), sys.argv[2]
    make_server("127.0.0.1", port, create_app(journal), threaded=True).serve_forever()


if __name__ == "__main__":
    main()
