"""What the tests of erasing and exporting share: a person with something in every table, and a look at every byte."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_hubspot_hitl import Attachment
from flask_hubspot_hitl.ledger import EventState, NewEvent, lanes

from .helpers import Json
from .story import Story

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

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
        facts={"Pet": "quokka"},
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
    item = {"objectId": handoff.thread_id, "value": PHONE}
    events: list[Json] = [
        {"lane": None, "state": EventState.QUARANTINED, "topic": "unreadable", "payload": item},
        {"lane": None, "state": EventState.PARKED, "topic": "message", "payload": unread, **thread},
        {
            "lane": "in:424242:9",
            "state": EventState.DEAD,
            "topic": "message",
            "handoff_id": handoff.id,
            "payload": unread,
        },
        {
            "lane": lanes.ticket(handoff.id),
            "topic": "ticket-note",
            "due_at": now + 3_600_000,
            "portal_id": "424242",
            "handoff_id": handoff.id,
            "payload": {"text": "quokka"},
        },
        {"lane": bridge, "topic": "botpress-chat", "payload": said},
    ]
    with ledger.write() as tx:
        for number, one in enumerate(events):
            given: Json = {"dedupe_key": f"in:{handoff.id[:8]}-{number}", "sort_at": now, **one}
            tx.queue.put([NewEvent(**given)], now=now)
        dead = next(one["id"] for one in tx.dead_events() if one["handoff_id"] == handoff.id)
        tx.audit.note(who="sam@acme.test", what="retry", event_id=dead, handoff_id=handoff.id, now=now)
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


class Held:
    """A server in front of a stand-in, which holds back the answer to one call until ``go_on`` is set."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.meanwhile: Callable[[], Any] = lambda: None
        self._match: str | None = None
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def hold(self, match: str) -> None:
        """Hold back the answer to the next call whose method and path match."""
        self._match = match

    def stop_at(self, name: str) -> None:
        """Wait, if this is what is to be held."""
        if self._match is not None and re.search(self._match, name):
            self._match = None
            self.reached.set()
            self.go_on.wait(60)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = Request(environ)
        headers = {name: value for name, value in asked.headers.items() if name != "Host"}
        path = asked.full_path if asked.query_string else asked.path
        url = self.target + path
        got = requests.request(asked.method, url, data=asked.get_data(), headers=headers, allow_redirects=False)
        self.stop_at(f"{asked.method} {asked.path}")
        kept = [(name, value) for name, value in got.headers.items() if name not in _HOPS]
        return Response(got.content, got.status_code, kept)(environ, start_response)

    def close(self) -> None:
        """End it."""
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


_HOPS = ("Content-Length", "Transfer-Encoding", "Connection", "Content-Encoding", "Server", "Date")


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""
