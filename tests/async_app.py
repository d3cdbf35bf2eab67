"""A host app with an ``async def`` receiver, for servers that take a factory; the journal's path is in ``JOURNAL``.

The receiver awaits until as many of its kind run at a time as ``TOGETHER`` says, so it ends only if they may overlap.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import threading
import time
from typing import Any

from flask import Flask, current_app, g

from flask_hubspot_hitl import HubSpotHITL, operator_message

together = int(os.environ.get("TOGETHER", "1"))
name_of: contextvars.ContextVar[str] = contextvars.ContextVar("name_of", default="")


def create_app() -> Flask:
    """The app."""
    app = Flask("async")
    app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
    hitl = HubSpotHITL(app)
    running: set[str] = set()
    met: set[str] = set()
    failed: set[str] = set()

    def note(**facts: Any) -> None:
        with open(os.environ["JOURNAL"], "a", encoding="utf-8") as file:
            file.write(json.dumps({**facts, "pid": os.getpid()}) + "\n")

    @operator_message.connect_via(app)
    async def receive(sender: Flask, handoff: Any, message: Any, **extra: Any) -> None:
        name = handoff.conversation_id
        assert name_of.get() == "", "what the last one set is not seen"
        name_of.set(name)
        g.name = name
        running.add(name)
        ends = time.monotonic() + 60
        while len(met) < together and time.monotonic() < ends:
            if len(running) >= together:
                met.update(running)
            await asyncio.sleep(0.01)
        assert len(met) >= together, "they did not overlap"
        if message.text not in failed:
            failed.add(message.text)
            raise ValueError("once")
        assert current_app.name == "async"
        assert (g.name, name_of.get()) == (name, name)
        assert hitl.send(name, f"re: {message.text}"), "the verbs work in there"
        threads = threading.active_count()
        note(signal="message", conversation=name, text=message.text, threads=threads)

    return app
