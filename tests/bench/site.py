"""One version with one database, and nothing asked of it but by its public doors: HTTP, commands and settings.

Its handoffs are opened through the door once, and then copied in its tables, whatever columns they have.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from sqlalchemy.engine import make_url

from ..helpers import Json, assigned_event
from .stage import AGENTS, PUBLIC_URL, RATE_LIMIT, Server, Stage, signed_request
from .versions import MODULE, Version

DAY_MS = 86_400_000
SPAN_MS = 300_000
"""Milliseconds: dispatchers that start within the same interval of this length share one look back at HubSpot."""
SPANS = 48
FIRST_THREAD = 6_300_000_000
REPLACED = {
    "id": "'copy' || i",
    "conversation_id": "'copied' || i",
    "integration_thread_id": "'copied-thread' || i",
    "thread_id": f"CAST({FIRST_THREAD} + i AS TEXT)",
    "opening_id": "NULL",
}
"""What is another's in each copy of a handoff."""
COUNT = "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "


class Site:
    """A version's app on a fresh database, with open handoffs."""

    def __init__(self, stage: Stage, version: Version, kind: str, url: str) -> None:
        self.version = version
        self.kind = kind
        self.url = url
        self.threads: list[str] = []
        self.journal = stage.folder / f"{uuid.uuid4().hex}.journal"
        self.settings = {
            **stage.hubspot.env(),
            **version.environment(),
            "HUBSPOT_HITL_PUBLIC_URL": PUBLIC_URL,
            "HUBSPOT_HITL_DATABASE_URL": url,
            "HUBSPOT_HITL_DISPATCHER": "external",
            "HUBSPOT_HITL_RATE_LIMIT": str(RATE_LIMIT),
            "BENCH_JOURNAL": str(self.journal),
        }
        self._stage = stage
        self._told = 0
        self._since = time.time_ns() // 1_000_000 - 3_600_000

    # Open handoffs ---------------------------------------------------------------------------------------

    def open(self, count: int) -> None:
        """Open one handoff through the door, and copy it.

        A dispatcher that starts looks back at HubSpot, and so does each hour: both are put off, for the stand-in knows
        no copies.
        """
        with self.serve("thread", processes=1) as server:
            self.start(server, ["first"])
            self._stage.wait_until(self._has_looked_back)
            self._stage.settled(self.stored)
        with self._database() as connection:
            columns = _columns(connection, self.kind, "hitl_handoff")
            told = ", ".join(columns)
            values = ", ".join(REPLACED.get(one, f"t.{one}") for one in columns)
            numbers = COUNT.format(first=len(self.threads) + 1, last=len(self.threads) + count)
            connection.execute(
                f"INSERT INTO hitl_handoff ({told}) {numbers} SELECT {values} FROM n, hitl_handoff t"
                " WHERE t.conversation_id = 'first'"
            )
            connection.execute(
                f"INSERT INTO hitl_thread (portal_id, thread_id, handoff_id) {numbers}"
                f" SELECT t.portal_id, {REPLACED['thread_id']}, {REPLACED['id']} FROM n, hitl_handoff t"
                " WHERE t.conversation_id = 'first'"
            )
            self._put_off(connection)
            if self.kind == "postgresql":  # what autovacuum does in the course of time
                connection.execute("ANALYZE")
        self.threads += [str(FIRST_THREAD + number) for number in range(1, count + 1)]

    def _has_looked_back(self) -> bool:
        with self._database() as connection:
            return bool(_starts(connection, "state = 2"))

    def _put_off(self, connection: Any) -> None:
        """Have no timer run for a day, and nobody look back who starts in the next hours."""
        now = time.time_ns() // 1_000_000
        connection.execute(f"UPDATE hitl_lane SET due_at = due_at + {DAY_MS} WHERE due_at > {now + 5_000}")
        key, *_ = _starts(connection, "state = 2")
        found = re.fullmatch(r"(.*start:)\d+", key)
        if found is None:
            raise RuntimeError(f"the look back at the start has another key: {key}")
        columns = [one for one in _columns(connection, self.kind, "hitl_event") if one != "dedupe_key"]
        names = ", ".join(columns)
        for span in range(now // SPAN_MS, now // SPAN_MS + SPANS):
            other = f"{found[1]}{span}"
            connection.execute(
                f"INSERT INTO hitl_event (dedupe_key, {names}) SELECT '{other}', {names} FROM hitl_event"
                f" WHERE dedupe_key = '{key}' AND '{other}' <> '{key}'"
            )

    def start(self, server: Server, conversations: list[str]) -> None:
        """Open handoffs through the door."""
        asked = requests.post(f"http://127.0.0.1:{server.port}/bench/start", json=conversations, timeout=120)
        asked.raise_for_status()
        if not all(asked.json()["threads"]):
            raise RuntimeError(f"{self.version.name}: a handoff was not opened at once")

    # What HubSpot says -----------------------------------------------------------------------------------

    def bodies(self, count: int, size: int = 1) -> list[str]:
        """So many webhooks of ``size`` new events each: a thread after the other is assigned to the other agent."""
        return [json.dumps([self._event() for _ in range(size)], separators=(",", ":")) for _ in range(count)]

    def _event(self) -> Json:
        turn, thread = divmod(self._told, len(self.threads))
        self._told += 1
        at = self._since + self._told
        return assigned_event(AGENTS[turn % len(AGENTS)], thread=self.threads[thread], at=at)

    def requests(self, count: int, size: int = 1) -> list[bytes]:
        """The same as signed HTTP requests."""
        return [signed_request(body.encode()) for body in self.bodies(count, size)]

    def accept(self, count: int, size: int = 100) -> None:
        """Have so many events stored, and none of them run."""
        whole, rest = divmod(count, size)
        with self.serve(processes=1) as server:
            for body in [*self.bodies(whole, size), *self.bodies(1 if rest else 0, rest)]:
                server.post(signed_request(body.encode()))

    # What becomes of it ----------------------------------------------------------------------------------

    def stored(self) -> int:
        """How many events wait for a dispatcher."""
        with self._database() as connection:
            [count] = connection.execute("SELECT count(*) FROM hitl_event WHERE state = 0").fetchone()
        return int(count)

    def drop_pending(self) -> None:
        """Take back what waits, as if it had been dispatched."""
        with self._database() as connection:
            connection.execute("UPDATE hitl_event SET state = 2, done_at = received_at WHERE state = 0")
            connection.execute("UPDATE hitl_lane SET due_at = NULL")

    def heard(self) -> list[float]:
        """When the receivers were called (``time.monotonic``)."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [float(line.split()[0]) for line in lines]

    def wait_for(self, signals: int) -> list[float]:
        """Wait until so many signals were heard; all of them. Nothing may be heard twice."""
        self._stage.wait_until(lambda: self.signals() >= signals)
        heard = self.heard()
        if len(heard) != signals:
            raise RuntimeError(f"{self.version.name}: {signals} signals were expected, and {len(heard)} were heard")
        return heard

    def signals(self) -> int:
        """How many signals were heard so far."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    @contextlib.contextmanager
    def _database(self) -> Iterator[Any]:
        """The database itself; every statement is committed by itself."""
        if self.kind == "sqlite":
            path = str(make_url(self.url).database)
            with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
                yield connection
            return
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as other:
            found = other.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'hitl_handoff'").fetchone()
            if found is not None:
                other.execute(f'SET search_path TO "{found[0]}"'.encode())
            yield other

    # Processes -------------------------------------------------------------------------------------------

    def serve(self, dispatcher: str = "external", *, processes: int = 2) -> contextlib.AbstractContextManager[Server]:
        """Serve it."""
        given = {**self.settings, "HUBSPOT_HITL_DISPATCHER": dispatcher}
        return self._stage.serve("create_app", given, module=MODULE, folder=self.version.place, processes=processes)

    def worker(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """``flask hubspot-hitl worker``."""
        command = ["-m", "flask", "--app", f"{MODULE}:create_app", "hubspot-hitl", "worker"]
        return self._stage.process(command, self.settings, folder=self.version.place)


def _starts(connection: Any, which: str) -> list[str]:
    """Return the keys of the events by which a dispatcher's start is looked back from."""
    asked = f"SELECT dedupe_key FROM hitl_event WHERE dedupe_key LIKE '%start:%' AND lane IS NOT NULL AND {which}"
    keys = [row[0] for row in connection.execute(asked).fetchall()]
    return [key for key in keys if re.fullmatch(r"[a-z]+:start:\d+", key)]


def _columns(connection: Any, kind: str, table: str) -> list[str]:
    """Return a table's columns, but for the number that each row is given."""
    if kind == "sqlite":
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall()]
    else:
        asked = (
            "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
            f" AND table_name = '{table}' ORDER BY ordinal_position"
        )
        names = [row[0] for row in connection.execute(asked).fetchall()]
    numbers = {"hitl_handoff": "seq", "hitl_event": "id"}
    return [one for one in names if one != numbers[table]]


def resident_mb(pid: int) -> float:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise KeyError("VmRSS")
