"""What was said in the chat, in a SQLite file; safe to use from several threads and processes."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flask import current_app

SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation_id TEXT NOT NULL,
    key TEXT NOT NULL,
    speaker TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    files TEXT NOT NULL,
    at REAL NOT NULL,
    UNIQUE (conversation_id, key)
);
CREATE TABLE IF NOT EXISTS upload (
    conversation_id TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (conversation_id, key)
);
CREATE TABLE IF NOT EXISTS standing (
    conversation_id TEXT PRIMARY KEY,
    ahead INTEGER,
    estimate REAL,
    may_rate INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file beside a message, and where it can be had: the user's own here, an agent's at HubSpot by its id there."""

    name: str
    url: str = ""
    file_id: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a chat. ``speaker`` is user, bot, agent or system; ``at`` is in epoch seconds."""

    number: int
    speaker: str
    name: str
    text: str
    files: tuple[File, ...]
    at: float

    def to_json(self) -> dict[str, Any]:
        """As the page reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a chat stands: conversations ahead of it in the queue, seconds it may take, whether its user may rate it."""

    ahead: int | None = None
    estimate: float | None = None
    may_rate: bool = False


class Store:
    """The chats of one app."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        with self._open() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10.0)) as db, db:
            yield db

    def add(
        self, conversation_id: str, key: str, speaker: str, text: str, *, name: str = "", files: Sequence[File] = ()
    ) -> None:
        """Write a line. The same ``key`` twice in a conversation is one line."""
        kept = json.dumps([asdict(file) for file in files])
        with self._open() as db:
            db.execute(
                "INSERT OR IGNORE INTO entry (conversation_id, key, speaker, name, text, files, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (conversation_id, key, speaker, name, text, kept, time.time()),
            )

    def entries(self, conversation_id: str, *, after: int = 0) -> list[Entry]:
        """A conversation's lines whose number is above ``after``, oldest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT number, speaker, name, text, files, at FROM entry"
                " WHERE conversation_id = ? AND number > ? ORDER BY number",
                (conversation_id, after),
            ).fetchall()
        return [
            Entry(number, speaker, name, text, tuple(File(**file) for file in json.loads(files)), at)
            for number, speaker, name, text, files, at in rows
        ]

    def newest(self, conversation_id: str, speaker: str, *, until: int) -> str | None:
        """The key of a speaker's newest line up to number ``until``."""
        with self._open() as db:
            found = db.execute(
                "SELECT key FROM entry WHERE conversation_id = ? AND speaker = ? AND number <= ?"
                " ORDER BY number DESC LIMIT 1",
                (conversation_id, speaker, until),
            ).fetchone()
        return None if found is None else str(found[0])

    def stand(
        self, conversation_id: str, *, ahead: int | None = None, estimate: float | None = None, may_rate: bool = False
    ) -> None:
        """Say how a chat stands now."""
        with self._open() as db:
            db.execute(
                "INSERT OR REPLACE INTO standing (conversation_id, ahead, estimate, may_rate) VALUES (?, ?, ?, ?)",
                (conversation_id, ahead, estimate, may_rate),
            )

    def standing(self, conversation_id: str) -> Standing:
        """How a chat stands."""
        with self._open() as db:
            found = db.execute(
                "SELECT ahead, estimate, may_rate FROM standing WHERE conversation_id = ?", (conversation_id,)
            ).fetchone()
        return Standing() if found is None else Standing(found[0], found[1], bool(found[2]))

    def keep(self, conversation_id: str, key: str, name: str, content: bytes) -> None:
        """Keep a file the user sent. The same ``key`` twice in a conversation is one file."""
        with self._open() as db:
            db.execute(
                "INSERT OR IGNORE INTO upload (conversation_id, key, name, content) VALUES (?, ?, ?, ?)",
                (conversation_id, key, name, content),
            )

    def kept(self, conversation_id: str, key: str) -> tuple[str, bytes] | None:
        """A file's name and content, if it is of this conversation."""
        with self._open() as db:
            found: tuple[str, bytes] | None = db.execute(
                "SELECT name, content FROM upload WHERE conversation_id = ? AND key = ?", (conversation_id, key)
            ).fetchone()
        return found


def get_store() -> Store:
    """The store of the current app."""
    store: Store = current_app.extensions["chat_store"]
    return store
