"""Keep the ledger's time: one for all processes, which goes on steadily when a clock is set.

Back-offs, leases, and the age at which something is given up are counted by it. On SQLite it is the time since the
machine was started, which nobody can set, and by how much that is behind the time of day is kept in the database. A
machine's clock that was set is followed slowly: one that is wrong for a moment moves nothing. On PostgreSQL the
server's clock is the only one that all hosts share, and is followed at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from ..clock import SystemClock, machine_since, uptime_ms
from .connection import Connection
from .schema import meta

SYNC_MS = 10_000
"""Milliseconds between two looks at the shared clock."""
_SLOW_MS = 1_000
"""Milliseconds: a reading of PostgreSQL's clock that took longer is discarded as too inexact."""
_SLOWNESS = 10
"""The machine's clock is followed by a tenth of the time that goes by."""
_MOST_MS = 1_000
"""Milliseconds by which the time is corrected at once: that is no jump."""
_NEVER_RIGHT_MS = 30 * 86_400_000
"""Milliseconds by which only a machine is off that has no clock of its own and has just asked for the time: that is
followed at once."""
_NAME = "clock"
_READ = sa.select(meta.c.value).where(meta.c.name == _NAME)
_SERVERS = sa.text("SELECT (extract(epoch from clock_timestamp())*1000)::bigint")


@cache
def _writing(insert: Any) -> sa.Insert:
    new = insert(meta).values(name=_NAME, value=sa.bindparam("kept"))
    written: sa.Insert = new.on_conflict_do_update(index_elements=["name"], set_={"value": new.excluded.value})
    return written


class Timekeeper:
    """Keep one process's ``clock`` at the ledger's time."""

    def __init__(self, clock: SystemClock, insert: Any, *, is_sqlite: bool) -> None:
        self._clock = clock
        self._is_sqlite = is_sqlite
        self._since = machine_since()
        self._sync_at = 0
        self.was_set_back = False
        """True once PostgreSQL's clock was set back: what waits for a time may wait for too long."""
        self._write = _writing(insert)

    def keep(self, connection: Connection, *, writes: bool) -> None:
        """Look at the time now and then, in a transaction at hand."""
        at = uptime_ms()
        if at < self._sync_at:
            return
        if not self._is_sqlite:
            self._follow_server(connection, at)
        elif self._since is None or self._follow_machine(connection, at, self._since, writes=writes):
            self._sync_at = at + SYNC_MS

    def _follow_server(self, connection: Connection, sent: int) -> None:
        theirs = int(connection.scalar(_SERVERS))
        took = uptime_ms() - sent
        if took < _SLOW_MS or self._sync_at == 0:
            at = sent + took // 2
            off = theirs - (self._clock.now_ms() - (uptime_ms() - at))
            self.was_set_back = self.was_set_back or (self._sync_at > 0 and off < -2 * _MOST_MS)
            self._clock.set(theirs, at=at)
        self._sync_at = sent + SYNC_MS

    def _follow_machine(self, connection: Connection, at: int, since: str, *, writes: bool) -> bool:
        """Follow the machine's clock. Return False when there is something to write that this transaction can't."""
        machine = self._clock.machine_ms()
        row = connection.row(_READ, {})
        found = ["", "0", "0"] if row is None else row.value.split(" ")
        if found[0] == since:
            ahead, changed_at = int(found[1]), int(found[2])
            off = machine - (at + ahead)
            if abs(off) < _NEVER_RIGHT_MS:
                most = min(_MOST_MS, max(0, at - changed_at) // _SLOWNESS)
                off = max(-most, min(off, most))
        else:  # the machine, or the database, is new here
            ahead, off = machine - at, 0
        is_new = found[0] != since or abs(off) >= _MOST_MS // 10
        if is_new and not writes:
            if found[0] == since:
                self._clock.set(at + ahead, at=at, is_true=False)
            return False
        if is_new:
            ahead += off
            connection.change(self._write, {"kept": f"{since} {ahead} {at}"})
        self._clock.set(at + ahead, at=at, is_true=False)
        return True
