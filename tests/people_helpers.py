"""What the tests of erasing and exporting share: a person with something in every table, and a look at every byte."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from flask_hubspot_hitl import Attachment
from flask_hubspot_hitl.ledger import EventState, NewEvent, lanes

from .helpers import Json
from .story import Story

PHONE = "+34911222333"
"""Rosa Vidal's, whom the stand-in knows."""
CANARIES = ("34911222333", "Zanzibar", "quokka", "wamid-9f31", "rosa@example.test")
"""Pieces of Rosa's number, name, words, ids and address; nobody else has them."""


def fill(story: Story, conversation_id: str = f"wa:{PHONE}", *, name: str = "Rosa Zanzibar") -> str:
    """Put something of a person into every table; return the thread's id."""
    handoff = story.start(
        conversation_id,
        name=name,
        title="a quokka",
        description="The quokka has not come",
        attributes={"about": "quokka"},
        history=[("user", "Where is my quokka?")],
    )
    photo = Attachment(name="quokka.txt", content_type="text/plain", content=b"a picture of a quokka")
    story.send("My quokka!", conversation_id, attachments=[photo], message_id="wamid-9f31")
    story.run()
    story.says(handoff.thread_id, f"Zanzibar, your quokka is on {PHONE}")
    ledger, now = story.state.ledger, story.now
    thread = {"portal_id": "424242", "thread_id": handoff.thread_id}
    unread = {"message": {"id": "7", "text": "quokka"}, "channelId": "100458"}
    bridge = lanes.bridge(lanes.bridge_topic("chat"), conversation_id)
    said = {"operation": "say", "key": conversation_id, "payload": {"text": "quokka"}}
    events: list[Json] = [
        {"lane": None, "state": EventState.QUARANTINED, "topic": "unreadable", "payload": {"value": PHONE}},
        {"lane": None, "state": EventState.PARKED, "topic": "message", "payload": unread, **thread},
        {
            "lane": "in:424242:9",
            "state": EventState.DEAD,
            "topic": "message",
            "handoff_id": handoff.id,
            "payload": unread,
        },
        {"lane": bridge, "topic": "botpress-chat", "payload": said},
    ]
    with ledger.write() as tx:
        for number, one in enumerate(events):
            given: Json = {"dedupe_key": f"{conversation_id}:{number}", "sort_at": now, **one}
            tx.queue.put([NewEvent(**given)], now=now)
        user = {"id": conversation_id, "name": name, "contact": "+34 911 222 333", "conversation": "bp-1"}
        tx.bridges.put("chat", f"user:{conversation_id}", user, now=now)
        tx.bridges.put("chat", "conversation:bp-1", conversation_id, now=now)
        tx.bridges.put("studio", f"once:ended:{conversation_id}", {"event": {"text": "quokka"}}, now=now)
    return str(handoff.thread_id)


def stored(database_url: str) -> str:
    """Everything a database holds: every byte of a SQLite store's files, every row of PostgreSQL's tables."""
    if database_url.startswith("sqlite"):
        path = Path(database_url.removeprefix("sqlite:///"))
        files = [one for one in path.parent.iterdir() if one.is_file() and one.name.startswith(path.name)]
        # In another process: to close a file that SQLite has open here would end the locks that it has on it.
        return subprocess.run(["cat", *files], capture_output=True, check=True).stdout.decode("latin-1")
    engine = sa.create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        schemas = [one for one in inspector.get_schema_names() if one not in ("information_schema", "pg_catalog")]
        tables = [f'"{one}"."{table}"' for one in schemas for table in inspector.get_table_names(schema=one)]
        rows = [tuple(row) for table in tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
    return "\n".join(repr([bytes(one) if isinstance(one, memoryview) else one for one in row]) for row in rows)


def left(database_url: str) -> list[str]:
    """The canaries that are still there."""
    found = stored(database_url)
    return [one for one in CANARIES if one in found]


def command(story: Story, *arguments: str) -> Any:
    """Run ``flask hubspot-hitl …``, which prints JSON."""
    result = story.app.test_cli_runner().invoke(args=["hubspot-hitl", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
