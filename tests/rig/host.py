"""The host app under fire, for servers and commands that take a factory: ``tests.rig.host:create_app``.

Every signal heard is one line of the witness file, written with a single ``write(O_APPEND)``: the kernel has it
whatever becomes of the process. Nothing is recognised as a repeat here; that is for the oracle to judge.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

from flask import Flask, request

from flask_hubspot_hitl import (
    Handoff,
    HubSpotHITL,
    MessageStatus,
    automation_assigned,
    conversation_completed,
    conversation_reopened,
    event_dead,
    idle_warning,
    message_delivered,
    message_failed,
    operator_assigned,
    operator_message,
    operator_unassigned,
    queue_changed,
)
from flask_hubspot_hitl.clock import to_ms

from . import mutants


def create_app() -> Flask:
    """The app: two routes for users, receivers that bear witness. Settings come from the environment."""
    mutants.apply(os.environ.get("RIG_MUTANT"))
    app = Flask("rig")
    app.secret_key = "rig"  # with it the processes share their tokens
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
    hitl = HubSpotHITL(app, may_install=lambda portal_id: True)
    connect_witness(app, os.environ["RIG_WITNESS"])

    @app.post("/start")
    def start() -> dict[str, Any]:
        return _facts(hitl.start(**request.get_json()))

    @app.post("/send")
    def send() -> dict[str, Any]:
        return {"accepted": hitl.send(**request.get_json())}

    @app.post("/note")
    def note() -> dict[str, Any]:
        return {"accepted": hitl.note(**request.get_json())}

    @app.post("/read")
    def read() -> dict[str, Any]:
        return {"count": hitl.mark_read(**request.get_json())}

    @app.post("/rate")
    def rate() -> dict[str, Any]:
        return {"accepted": hitl.rate(**request.get_json())}

    @app.get("/read/<conversation_id>")
    def was_read(conversation_id: str) -> dict[str, Any]:
        said = hitl.transcript(conversation_id)
        return {"read": [one.message_id for one in said if one.status is MessageStatus.READ]}

    @app.get("/handoffs/<conversation_id>")
    def handoff(conversation_id: str) -> dict[str, Any]:
        found = hitl.get(conversation_id)
        return {"open": False} if found is None else _facts(found)

    return app


def _facts(handoff: Handoff) -> dict[str, Any]:
    operator = handoff.operator.actor_id if handoff.operator else None
    return {"open": handoff.is_open, "thread": handoff.thread_id, "operator": operator}


def connect_witness(app: Flask, path: str) -> None:
    """Connect a receiver to every signal that the oracle knows.

    ``RIG_WORK_SECONDS`` is what each has to do at most before it has its effect, and again afterwards.
    """
    life = uuid.uuid4().hex  # of this process: the system uses its pids again
    work = float(os.environ["RIG_WORK_SECONDS"])
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(kind: str, handoff: Handoff | None, *, key: str = "", at: Any = None, **facts: Any) -> None:
        time.sleep(random.uniform(0, work))
        line = {
            "at": time.time(),
            "life": life,
            "kind": kind,
            "thread": handoff and handoff.thread_id,
            "conversation": handoff and handoff.conversation_id,
            "time": to_ms(at) if at else None,
            "key": key,
            **facts,
        }
        os.write(file, json.dumps(line).encode() + b"\n")
        time.sleep(random.uniform(0, work))

    @operator_message.connect_via(app, weak=False)
    def on_message(sender: Flask, handoff: Handoff, message: Any, **extra: Any) -> None:
        note("message", handoff, key=message.message_id, at=message.created_at, text=message.text)

    @operator_assigned.connect_via(app, weak=False)
    def on_assigned(sender: Flask, handoff: Handoff, operator: Any, **extra: Any) -> None:
        note("assigned", handoff, at=handoff.assigned_at, actor=operator.actor_id)

    @operator_unassigned.connect_via(app, weak=False)
    def on_unassigned(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note("unassigned", handoff)

    @conversation_completed.connect_via(app, weak=False)
    def on_completed(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note("completed", handoff, at=handoff.closed_at)

    @conversation_reopened.connect_via(app, weak=False)
    def on_reopened(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note("reopened", handoff)

    @message_delivered.connect_via(app, weak=False)
    def on_delivered(sender: Flask, handoff: Handoff, message: Any, **extra: Any) -> None:
        note("delivered", handoff, key=message.message_id)

    @message_failed.connect_via(app, weak=False)
    def on_failed(sender: Flask, handoff: Handoff, message: Any, error: str, **extra: Any) -> None:
        note("failed", handoff, key=message.message_id, error=error)

    @event_dead.connect_via(app, weak=False)
    def on_dead(sender: Flask, event: Any, error: str, **extra: Any) -> None:
        note("dead", None, key=str(event["id"]), error=error)

    if os.environ.get("RIG_ALL_ON"):
        connect_others(app, note)


def connect_others(app: Flask, note: Callable[..., None]) -> None:
    """Connect the signals of what is switched off by default; nothing that they tell may hold up the rest."""

    @queue_changed.connect_via(app, weak=False)
    def on_moved(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note("moved", handoff)

    @idle_warning.connect_via(app, weak=False)
    def on_idle(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note("idle", handoff)

    @automation_assigned.connect_via(app, weak=False)
    def on_machine(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        note("machine", handoff)
