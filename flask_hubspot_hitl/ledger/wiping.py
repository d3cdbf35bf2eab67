"""See to it that what was erased is in no file of a SQLite database any more. Knows SQLite, and nothing of people.

Every connection overwrites what it deletes (``PRAGMA secure_delete``), but the log keeps older pages until it is
brought into the database and emptied; and what was deleted before connections did so is still there until the database
is written anew, once.
"""

from __future__ import annotations

import contextlib
import sqlite3

from .files import Files

OVERWRITTEN = "overwritten"
"""Name in ``hitl_meta``: set once the database holds nothing that was deleted without being overwritten."""
_PATIENCE_MS = 5_000
"""Milliseconds to wait for others who read or write."""


def wipe(files: Files, *, anew: bool) -> bool:
    """Bring the log into the database, and empty it.

    :param anew: write the whole database anew, too; meanwhile nobody else can write.
    :returns: False when others were reading or writing all the time, or the disk is full.
    """
    with contextlib.suppress(sqlite3.Error), contextlib.closing(files.connect()) as connection:
        connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}").close()
        if anew:
            connection.execute("VACUUM").close()
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy
    return False
