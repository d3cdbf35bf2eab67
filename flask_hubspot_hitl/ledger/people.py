"""Find, list and delete the rows of a person, and those of conversations that are too old; remember what was erased.

Runs inside the caller's transaction. Who a person is, and what follows from an erasure, is decided in ``handoffs``;
what a column holds is said in ``holdings``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa

from . import codec, lanes
from .connection import Connection
from .database import Database
from .holdings import HOLDINGS, exported
from .parts import Part
from .schema import (
    EventState,
    audit,
    blob,
    bridge,
    erased,
    event,
    handoff,
    in_state,
    installation,
    is_given_up,
    lane,
    message,
    metadata,
    once,
    thread,
)

CHUNK = 500
"""Values of one statement, at most."""
OVERLAP = 1_000
"""PostgreSQL may commit a row after another with a higher id: so far back is looked once more."""
OVERLAP_MS = 60_000
"""And so many milliseconds, where rows have a time instead."""
_BRIDGE = f"(?:{lanes.Lane.TIMER.prefix}:)?{lanes.Lane.BRIDGE.prefix}[^:]+"
_NAMED_FOR = (
    re.compile(f"(?:{_BRIDGE}|user|session|starting|conversation|once:(?:ended|stop)):"),
    re.compile(f"{_BRIDGE}:(?:bot|parked|start|stop|refuse):"),
)
"""What stands before the host's name of a conversation or user in the keys of bridges: of lanes, rows and events."""


@dataclass(slots=True, kw_only=True)
class Belongings:
    """Hold which rows are a person's, or a handoff's."""

    handoffs: set[str] = field(default_factory=set)
    conversations: set[str] = field(default_factory=set)
    """The host's names of conversations and users; lanes and rows of bridges are called by them."""
    threads: set[tuple[str, str]] = field(default_factory=set)
    """Portal id and thread id."""
    events: set[int] = field(default_factory=set)
    seen: int = 0
    """The newest event that was looked at."""
    seen_handoff: int = 0
    """The newest handoff that was looked at, by its number."""
    seen_at: int = 0
    """Epoch ms of the newest row of a bridge's that was looked at."""
    bridges: set[tuple[str, str]] = field(default_factory=set)
    """Bridge and key."""
    written: set[str] = field(default_factory=set)
    """Numbers and addresses of the handoffs' contacts."""
    once: set[str] = field(default_factory=set)

    def is_empty(self) -> bool:
        """Return True when nothing was found."""
        return not (self.handoffs or self.events or self.bridges or self.once)

    def is_named_in(self, key: str) -> bool:
        """Return True when a key has the id of a handoff or a thread of these as a part, or is named for a person."""
        threads = (f"{portal}:{one}" for portal, one in self.threads)
        return self.names_person(key) or _has_part(key, chain(self.handoffs, threads))

    def names_person(self, key: str) -> bool:
        """Return True when a key is called by one of their conversations. A host names these as it likes, and may call
        one ``in`` or ``user``: they count only where a bridge puts such a name.
        """
        return any(key[begun.end() :] in self.conversations for one in _NAMED_FOR if (begun := one.match(key)))


class Whose(NamedTuple):
    """What tells whose a handoff is."""

    id: str
    conversation_id: str
    portal_id: str
    contact: dict[str, Any] | None
    sender: dict[str, Any] | None


class LooseEvent(NamedTuple):
    """An event that names no handoff."""

    id: int
    lane: str | None
    dedupe_key: str
    payload: Any


class Undelivered(NamedTuple):
    """An event that was still to be run."""

    id: int
    topic: str
    portal_id: str | None
    thread_id: str | None
    handoff_id: str | None
    attempts: int
    payload: Any
    progress: dict[str, Any]


class Statements:
    """Hold the statement of every webhook, made once."""

    def __init__(self, each: Callable[[str], sa.Select[Any]]) -> None:
        self.erased = sa.select(erased.c.key).where(erased.c.key.in_(each("marks")))


def thread_mark(portal_id: str, thread_id: str) -> str:
    """Return by which key an erased thread is remembered."""
    return f"thread:{portal_id}:{thread_id}"


def opening_mark(integration_thread_id: str) -> str:
    """Return by which key the opening of an erased thread is remembered: its thread may not be known yet."""
    return f"opening:{integration_thread_id}"


class People(Part):
    """Find and delete what is kept of people, in one transaction."""

    def __init__(self, connection: Connection, database: Database, statements: Statements) -> None:
        super().__init__(connection, database)
        self._say = statements

    # Looking, without a lock -----------------------------------------------------------------------------

    def handoffs(self, *, after: int = 0) -> Iterator[Whose]:
        """Return what tells whose each handoff is, of those with higher numbers than ``after``."""
        wanted = (handoff.c.id, handoff.c.conversation_id, handoff.c.portal_id, handoff.c.contact, handoff.c.sender)
        newer = sa.select(*wanted).where(handoff.c.seq > after)
        for one, conversation, portal, contact, sender in self._connection.execute(newer):
            yield Whose(one, conversation, portal, codec.loads(contact), codec.loads(sender))

    def bridge_rows(self, *, since: int = 0, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
        """Return what bridges remember: bridge, key, value.

        :param since: epoch ms; rows that were stored before are left out.
        :param prefix: what keys begin with.
        """
        wanted = sa.select(bridge.c.bridge, bridge.c.key, bridge.c.value).where(bridge.c.updated_at >= since)
        if prefix:
            wanted = wanted.where(bridge.c.key.startswith(prefix, autoescape=True))
        for row in self._connection.execute(wanted):
            yield row.bridge, row.key, codec.loads(row.value)

    def loose_events(self, *, after: int = 0) -> Iterator[LooseEvent]:
        """Return the events that name no handoff, with higher ids than ``after``, but for those of an erasure."""
        wanted = (event.c.id, event.c.lane, event.c.dedupe_key, event.c.payload)
        told = sa.or_(event.c.lane.is_(None), event.c.lane.not_like(f"{lanes.erasure('')}%"))
        newer = sa.select(*wanted).where(event.c.id > after, event.c.handoff_id.is_(None), told)
        for row in self._connection.execute(newer):
            yield LooseEvent(row.id, row.lane, row.dedupe_key, codec.loads(row.payload))

    def loose_events_about(self, handoff_id: str) -> set[int]:
        """Return the events that name no handoff, but are called by this one: what bridges tell of it."""
        named = event.c.dedupe_key.contains(handoff_id, autoescape=True)
        return set(self._connection.scalars(sa.select(event.c.id).where(event.c.handoff_id.is_(None), named)))

    def mark_seen(self, found: Belongings) -> None:
        """Note up to where all is looked at from now on; what is stored later is to be looked for again."""
        newest = (sa.func.max(event.c.id), sa.func.max(handoff.c.seq), sa.func.max(bridge.c.updated_at))
        seen = (int(self._connection.scalar(sa.select(one)) or 0) for one in newest)
        found.seen, found.seen_handoff, found.seen_at = seen

    def portals(self) -> set[str]:
        """Return the ids of all portals there are rows of."""
        found = set(self._connection.scalars(sa.select(handoff.c.portal_id).distinct()))
        return found | set(self._connection.scalars(sa.select(installation.c.portal_id)))

    def complete(self, found: Belongings) -> None:
        """Add the threads of the handoffs, their events, and what is remembered of them."""
        found.threads |= self._threads_of(found.handoffs)
        found.events |= self._events_of(found)
        found.once |= {f"compared:{one}" for one in found.handoffs}
        found.once = set(self._chosen(once.c.key, once.c.key, found.once))

    def _threads_of(self, handoffs: Collection[str]) -> set[tuple[str, str]]:
        found = set()
        for chunk in _chunks(handoffs):
            rows = self._connection.execute(
                sa.select(thread.c.portal_id, thread.c.thread_id).where(thread.c.handoff_id.in_(chunk))
            )
            found |= {(row.portal_id, row.thread_id) for row in rows}
        return found

    def _events_of(self, found: Belongings, *, after: int = 0) -> set[int]:
        """Return the events of the handoffs and their threads; there is no index for that.

        Without those that erase: they hold nothing of the person, and the one at work must be there to be finished.
        """
        ids: set[int] = set()
        erases = sa.and_(event.c.lane.like(f"{lanes.erasure('')}%"), in_state(EventState.PENDING))
        newer = sa.and_(event.c.id > after, sa.or_(event.c.lane.is_(None), sa.not_(erases)))
        for chunk in _chunks(found.handoffs):
            ids |= set(self._connection.scalars(sa.select(event.c.id).where(newer, event.c.handoff_id.in_(chunk))))
        for chunk in _chunks({one for _, one in found.threads}):
            rows = self._connection.execute(
                sa.select(event.c.id, event.c.portal_id, event.c.thread_id, event.c.lane).where(
                    newer, event.c.thread_id.in_(chunk)
                )
            )
            ids |= {row.id for row in rows if (row.portal_id, row.thread_id) in found.threads}
        return ids

    def _chosen(self, wanted: sa.Column[Any], column: sa.Column[Any], values: Collection[Any]) -> Iterator[Any]:
        for chunk in _chunks(values):
            yield from self._connection.scalars(sa.select(wanted).where(column.in_(chunk)))

    # Listing ---------------------------------------------------------------------------------------------

    def rows(self, found: Belongings) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of an export by what they are called, each with the columns that ``holdings`` exports."""
        listed: dict[str, list[dict[str, Any]]] = {}
        for name, held in HOLDINGS.items():
            if held.called is not None:
                table = metadata.tables[name]
                columns = [table.c[one] for one in exported(name)]
                ordered = sa.select(*columns).order_by(*table.primary_key)
                listed[held.called] = [
                    row._asdict()
                    for where in self._where(table, found)
                    for row in self._connection.execute(ordered.where(where))
                ]
        return listed

    def count(self, found: Belongings) -> dict[str, int]:
        """Return how many rows of each kind there are."""
        counts: dict[str, int] = {}
        for name, held in HOLDINGS.items():
            if held.called is not None:
                table = metadata.tables[name]
                each = (sa.select(sa.func.count()).select_from(table).where(one) for one in self._where(table, found))
                counts[held.called] = sum(int(self._connection.scalar(one) or 0) for one in each)
        return counts

    def _where(self, table: sa.Table, found: Belongings) -> Iterator[sa.ColumnElement[bool]]:
        """Return which rows of a table are theirs, in conditions that no row meets twice."""
        ids: dict[sa.Table, tuple[sa.Column[Any], Collection[Any]]] = {
            handoff: (handoff.c.id, found.handoffs),
            thread: (thread.c.handoff_id, found.handoffs),
            message: (message.c.handoff_id, found.handoffs),
            event: (event.c.id, found.events),
            once: (once.c.key, found.once),
        }
        if table is blob:
            for chunk in _chunks(found.handoffs):
                yield blob.c.message_row.in_(sa.select(message.c.id).where(message.c.handoff_id.in_(chunk)))
        elif table is audit:
            yield from (audit.c.handoff_id.in_(chunk) for chunk in _chunks(found.handoffs))
            nameless = audit.c.handoff_id.is_(None)
            yield from (sa.and_(nameless, audit.c.event_id.in_(chunk)) for chunk in _chunks(found.events))
        elif table is bridge:
            for name, key in sorted(found.bridges):
                yield sa.and_(bridge.c.bridge == name, bridge.c.key == key)
        else:
            column, values = ids[table]
            yield from (column.in_(chunk) for chunk in _chunks(values))

    # Erasing ---------------------------------------------------------------------------------------------

    def lanes_of(self, found: Belongings) -> list[str]:
        """Return the lanes in which something of theirs waits or may be put, without those of erasures."""
        known = {key for key in self._connection.scalars(sa.select(lane.c.key)) if found.is_named_in(key)}
        known |= {lanes.outbound(one) for one in found.handoffs} | {lanes.thread(*one) for one in found.threads}
        return [one for one in known if lanes.is_known(one) and not one.startswith(lanes.erasure(""))]

    def look_again(self, found: Belongings, keys: Collection[str]) -> None:
        """Add what was stored since :meth:`complete`, once the lanes are locked."""
        found.threads |= self._threads_of(found.handoffs)
        found.events |= self._events_of(found, after=found.seen - OVERLAP)
        for chunk in _chunks(keys):
            waiting = sa.select(event.c.id).where(event.c.lane.in_(chunk), in_state(EventState.PENDING))
            found.events |= set(self._connection.scalars(waiting))

    def undelivered(self, found: Belongings) -> list[Undelivered]:
        """Return the events that were still to be run, in their order."""
        rows = []
        for chunk in _chunks(found.events):
            waits = event.c.state.in_([int(EventState.PENDING), int(EventState.PARKED)])
            rows += self._connection.execute(sa.select(event).where(event.c.id.in_(chunk), waits)).all()
        ordered = sorted(rows, key=lambda row: (row.sort_at, row.id))
        return [_undelivered(row) for row in ordered]

    def delete(self, found: Belongings, keys: Collection[str], *, now: int) -> dict[str, int]:
        """Delete all rows, and take the lanes away from who is working in them: what he finishes is not accepted.

        :param keys: the lanes. Those that are named for people, as bridges' are, are deleted too.
        :returns: how many rows of each kind there were.
        """
        marks = {thread_mark(*one) for one in found.threads}
        opened = self._chosen(handoff.c.integration_thread_id, handoff.c.id, found.handoffs)
        for mark in sorted(marks | {opening_mark(one) for one in opened}):
            self._put(erased, {"key": mark}, {"erased_at": now})
        counts = {}
        for table in (blob, message, event, thread, handoff, once, bridge, audit):
            gone = (self._changed(sa.delete(table).where(one)) for one in self._where(table, found))
            counts[str(HOLDINGS[table.name].called)] = sum(gone)
        named = [one for one in keys if one.startswith(lanes.Lane.BRIDGE.prefix) or found.names_person(one)]
        for chunk in _chunks(named):
            self._connection.execute(sa.delete(lane).where(lane.c.key.in_(chunk)))
        idle = {"owner": None, "due_at": None, "failures": 0, "gap": 0, "hung_since": None}
        for chunk in _chunks(keys):
            free = sa.update(lane).where(lane.c.key.in_(chunk))
            self._connection.execute(free.values(fence=lane.c.fence + 1, **idle))
        return counts

    # What was erased -------------------------------------------------------------------------------------

    def erased(self, marks: Collection[str]) -> set[str]:
        """Return which of these were erased; see :func:`thread_mark`."""
        if not marks:
            return set()
        given = {"marks": codec.dumps(list(marks))}
        return {row.key for row in self._connection.rows(self._say.erased, given)}

    def drop(self, dedupe_keys: Collection[str], *, but: str) -> None:
        """Delete events by their dedupe keys, but not those of one topic."""
        for chunk in _chunks(dedupe_keys):
            self._connection.execute(sa.delete(event).where(event.c.dedupe_key.in_(chunk), event.c.topic != but))

    # What is too old -------------------------------------------------------------------------------------

    def prune_conversations(self, *, before: int, limit: int) -> int:
        """Delete the oldest handoffs that ended before ``before`` (epoch ms), with all that was said in them.

        :param limit: rows, at most; of a long handoff the messages go first, in several bites.
        :returns: the number of rows that were deleted, ``limit`` or more when there may be others.
        """
        old = sa.select(handoff.c.id).where(handoff.c.closed_at < before).order_by(handoff.c.closed_at)
        ids = list(self._connection.scalars(old.limit(max(1, limit // 10))))
        if not ids:
            return 0
        said = list(self._connection.scalars(sa.select(message.c.id).where(message.c.handoff_id.in_(ids)).limit(limit)))
        self._connection.execute(sa.delete(blob).where(blob.c.message_row.in_(said)))
        self._connection.execute(sa.delete(message).where(message.c.id.in_(said)))
        if len(said) == limit:
            return limit
        self._connection.execute(sa.delete(thread).where(thread.c.handoff_id.in_(ids)))
        self._connection.execute(sa.delete(event).where(event.c.handoff_id.in_(ids), is_given_up))
        self._connection.execute(sa.delete(handoff).where(handoff.c.id.in_(ids)))
        return limit if len(ids) == max(1, limit // 10) else len(said) + len(ids)

    def prune_dead(self, *, before: int, limit: int) -> int:
        """Delete events that were given up, or could not be read, and came before ``before`` (epoch ms).

        :returns: the number of events.
        """
        old = sa.select(event.c.id).where(is_given_up, event.c.received_at < before).limit(limit)
        return self._changed(sa.delete(event).where(event.c.id.in_(old.scalar_subquery())))

    def prunable(self, *, before: int) -> int:
        """Return how many handoffs ended before ``before`` (epoch ms)."""
        old = sa.select(sa.func.count()).select_from(handoff).where(handoff.c.closed_at < before)
        return int(self._connection.scalar(old) or 0)


def _has_part(key: str, names: Iterable[str]) -> bool:
    parts = f":{key}:"
    return any(f":{one}:" in parts for one in names)


def _undelivered(row: Any) -> Undelivered:
    facts = {name: getattr(row, name) for name in Undelivered._fields}
    return Undelivered(**{**facts, "payload": codec.loads(row.payload), "progress": codec.loads(row.progress) or {}})


def _chunks(values: Collection[Any]) -> Iterator[list[Any]]:
    ordered = sorted(values)
    return (ordered[at : at + CHUNK] for at in range(0, len(ordered), CHUNK))
