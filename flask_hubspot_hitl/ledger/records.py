"""Store handoffs, their threads and their messages. Runs inside the caller's transaction.

Stores and finds; what may happen to a handoff is decided in ``handoffs``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from ..domain import Attachment, Author, Handoff, Message, MessageStatus
from . import codec
from .connection import Connection
from .database import Database
from .parts import Part
from .rows import HandoffRecord, OperatorRow, handoff_values, message_values, note_stored, to_message, to_record
from .schema import ONE, blob, handoff, is_open, is_starting, message, thread

_given = sa.bindparam


class Statements:
    """Hold the statements of every webhook, message and signal, made once."""

    def __init__(self, insert: Any, each: Callable[[str], sa.Select[Any]]) -> None:
        of_conversation = sa.select(handoff).where(handoff.c.conversation_id == _given("conversation_id"))
        self.get = sa.select(handoff).where(handoff.c.id == _given("handoff_id"))
        self.get_locked = self.get.with_for_update()
        self.open_of = of_conversation.where(is_open)
        self.open_of_locked = self.open_of.with_for_update()
        self.newest_of = of_conversation.order_by(handoff.c.seq.desc()).limit(ONE)
        self._updates: dict[tuple[str, ...], sa.Update] = {}
        self._message_updates: dict[tuple[str, ...], sa.Update] = {}
        self._status_updates: dict[tuple[str, ...], sa.Update] = {}
        self.starting = sa.select(handoff.c.portal_id).where(is_starting, handoff.c.portal_id == _given("portal_id"))
        self.starting = self.starting.limit(ONE)
        self.of_thread = sa.select(thread.c.thread_id, thread.c.handoff_id).where(
            thread.c.portal_id == _given("portal_id"), thread.c.thread_id == _given("thread_id")
        )
        self.of_threads = sa.select(thread.c.thread_id, thread.c.handoff_id).where(
            thread.c.portal_id == _given("portal_id"), thread.c.thread_id.in_(each("thread_ids"))
        )
        new = insert(message).values({name: _given(name) for name in _MESSAGE}).on_conflict_do_nothing()
        self.insert_message = new.returning(message.c.id)
        self.get_message = sa.select(message).where(message.c.id == _given("row_id"))
        self.drop_contents = sa.delete(blob).where(blob.c.message_row == _given("row_id"))

    def update(self, names: tuple[str, ...]) -> sa.Update:
        """Return the statement that changes these columns of a handoff."""
        made = self._updates.get(names)
        if made is None:
            made = sa.update(handoff).where(handoff.c.id == _given("handoff_id"))
            self._updates[names] = made = made.values({name: _given(name) for name in names})
        return made

    def update_message(self, names: tuple[str, ...]) -> sa.Update:
        """Return the statement that changes these columns of a message."""
        made = self._message_updates.get(names)
        if made is None:
            made = sa.update(message).where(message.c.id == _given("row_id"))
            self._message_updates[names] = made = made.values({name: _given(name) for name in names})
        return made

    def set_status(self, ends: tuple[str, ...]) -> sa.Update:
        """Return the statement that changes a message's status, unless it is one of these."""
        made = self._status_updates.get(ends)
        if made is None:
            made = self.update_message(("status", "error")).where(*(message.c.status != one for one in ends))
            self._status_updates[ends] = made = made.returning(message.c.id)
        return made


_ACCOUNTS = (
    sa.select(handoff.c.portal_id, handoff.c.channel_id, handoff.c.account_id)
    .where(handoff.c.account_id.in_(_given("accounts", expanding=True)))
    .distinct()
)
_MESSAGE = [name for name in message.c.keys() if name not in ("id", "hubspot_id", "event_id")]  # noqa: SIM118 - no dict


def _by(handoff_id: str, author: Author = Author.OPERATOR) -> tuple[sa.ColumnElement[bool], ...]:
    return message.c.handoff_id == handoff_id, message.c.author == author.value


class Records(Part):
    """Read and write handoffs, threads and messages, in one transaction."""

    def __init__(self, connection: Connection, database: Database, statements: Statements) -> None:
        super().__init__(connection, database)
        self._say = statements

    def insert(self, record: HandoffRecord) -> bool:
        """Store a new handoff.

        :returns: False when its conversation already has an open one.
        """
        return self._add(handoff, **handoff_values(record))

    def update(self, record: HandoffRecord) -> None:
        """Store what has been changed of a handoff."""
        values, stored = handoff_values(record), record.stored
        changed = {name: value for name, value in values.items() if stored is None or stored[name] != value}
        if changed:
            self._connection.change(self._say.update(tuple(changed)), {**changed, "handoff_id": values["id"]})
            note_stored(record, values)

    def delete(self, handoff_id: str) -> None:
        """Delete a handoff whose ``start`` raised."""
        self._connection.execute(sa.delete(handoff).where(handoff.c.id == handoff_id))

    def get(self, handoff_id: str, *, lock: bool = False) -> HandoffRecord | None:
        """Return a handoff by its id; ``lock`` holds its row until the transaction ends."""
        return self._one(self._say.get_locked if lock else self._say.get, handoff_id=handoff_id)

    def open_of(self, conversation_id: str, *, lock: bool = False) -> HandoffRecord | None:
        """Return the conversation's open handoff."""
        return self._one(self._say.open_of_locked if lock else self._say.open_of, conversation_id=conversation_id)

    def newest_of(self, conversation_id: str) -> HandoffRecord | None:
        """Return the conversation's newest handoff, open or not."""
        return self._one(self._say.newest_of, conversation_id=conversation_id)

    def all_of(self, conversation_id: str) -> list[HandoffRecord]:
        """Return all handoffs of a conversation, newest first."""
        mine = sa.select(handoff).where(handoff.c.conversation_id == conversation_id).order_by(handoff.c.seq.desc())
        return [to_record(row) for row in self._connection.execute(mine)]

    def recent(self, limit: int) -> list[Handoff]:
        """Return the newest handoffs, newest first."""
        rows = self._connection.execute(sa.select(handoff).order_by(handoff.c.seq.desc()).limit(limit))
        return [to_record(row).handoff for row in rows]

    def to_reconcile(self, *, closed_since: int | None, portal_id: str | None = None) -> list[HandoffRecord]:
        """Return open handoffs with a thread; also the conversations' newest that were closed since ``closed_since``.

        Of one portal, or of all portals. ``closed_since`` is epoch ms.
        """
        wanted: sa.ColumnElement[bool] = is_open
        if closed_since is not None:
            other = handoff.alias()
            newest = (
                sa.select(sa.func.max(other.c.seq))
                .where(other.c.conversation_id == handoff.c.conversation_id)
                .scalar_subquery()
            )
            wanted = sa.or_(is_open, sa.and_(handoff.c.closed_at >= closed_since, handoff.c.seq == newest))
        statement = sa.select(handoff).where(handoff.c.thread_id.is_not(None), wanted).order_by(handoff.c.seq)
        if portal_id is not None:
            statement = statement.where(handoff.c.portal_id == portal_id)
        return [to_record(row) for row in self._connection.execute(statement)]

    def agents_wrote(self, portal_id: str, *, closed_since: int) -> dict[str, int]:
        """Return when agents wrote last: handoff id → epoch ms, for a portal's handoffs that have such a message.

        :param closed_since: epoch ms; handoffs that were closed before are left out.
        """
        wanted = sa.select(handoff.c.id).where(
            handoff.c.portal_id == portal_id, sa.or_(is_open, handoff.c.closed_at >= closed_since)
        )
        statement = (
            sa.select(message.c.handoff_id, sa.func.max(message.c.created_at))
            .where(message.c.handoff_id.in_(wanted), message.c.author == Author.OPERATOR.value)
            .group_by(message.c.handoff_id)
        )
        return {row[0]: int(row[1]) for row in self._connection.execute(statement)}

    def open_with(self, portal_id: str, channel_id: str) -> list[HandoffRecord]:
        """Return a portal's open handoffs through a channel, the oldest first."""
        mine = sa.select(handoff).where(handoff.c.portal_id == portal_id, handoff.c.channel_id == channel_id, is_open)
        return [to_record(row) for row in self._connection.execute(mine.order_by(handoff.c.seq))]

    def of_thread(self, thread_id: str) -> list[HandoffRecord]:
        """Return the handoffs of a thread id, at most one for each portal."""
        kept = sa.select(thread.c.handoff_id).where(thread.c.thread_id == thread_id)
        return [to_record(row) for row in self._connection.execute(sa.select(handoff).where(handoff.c.id.in_(kept)))]

    def count_by_state(self) -> dict[str, int]:
        """Return the number of handoffs in each state."""
        rows = self._connection.execute(sa.select(handoff.c.state, sa.func.count()).group_by(handoff.c.state))
        return {state: int(count) for state, count in rows}

    def _one(self, statement: sa.Select[Any], **values: str) -> HandoffRecord | None:
        row = self._connection.row(statement, values)
        return None if row is None else to_record(row)

    def starting_portals(self, portal_ids: Collection[str]) -> set[str]:
        """Return which of the portals have a handoff whose thread is not known yet."""
        return {one for one in portal_ids if self._connection.row(self._say.starting, {"portal_id": one})}

    def own_accounts(self, account_ids: Collection[str]) -> set[tuple[str, str, str]]:
        """Return which of the channel accounts a handoff of ours has used: (portal, channel, account)."""
        if not account_ids:
            return set()
        rows = self._connection.execute(_ACCOUNTS, {"accounts": list(account_ids)})
        return {(row[0], row[1], row[2]) for row in rows}

    def handoffs_of_threads(self, threads: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return (portal id, thread id) → handoff id, for those of the threads that are ours."""
        found: dict[tuple[str, str], str] = {}
        for portal_id in {portal for portal, _ in threads}:
            ids = [thread_id for portal, thread_id in threads if portal == portal_id]
            if len(ids) == 1:
                rows = self._connection.rows(self._say.of_thread, {"portal_id": portal_id, "thread_id": ids[0]})
            else:
                given = {"portal_id": portal_id, "thread_ids": codec.dumps(ids)}
                rows = self._connection.rows(self._say.of_threads, given)
            found |= {(portal_id, row.thread_id): row.handoff_id for row in rows}
        return found

    def bind_thread(self, *, portal_id: str, thread_id: str, handoff_id: str) -> None:
        """Store that a thread belongs to this handoff."""
        self._put(thread, {"portal_id": portal_id, "thread_id": thread_id}, {"handoff_id": handoff_id})

    def insert_message(self, handoff_id: str, value: Message, *, contents: Sequence[bytes | None] = ()) -> int | None:
        """Store a message and its files' bytes.

        :returns: the message's row id; None when its message id is already stored.
        """
        values = {"handoff_id": handoff_id, **message_values(value)}
        row = self._connection.row(self._say.insert_message, values)
        row_id: int | None = None if row is None else row.id
        if row_id is not None:
            for position, content in enumerate(contents):
                if content is not None:
                    self.put_content(row_id, position, content)
        return row_id

    def put_content(self, row_id: int, position: int, content: bytes) -> None:
        """Store a file's bytes until HubSpot has them."""
        self._connection.execute(sa.insert(blob).values(message_row=row_id, position=position, content=content))

    def get_message(self, row_id: int) -> Message | None:
        """Return a message by its row id, or None."""
        row = self._connection.row(self._say.get_message, {"row_id": row_id})
        return None if row is None else to_message(row)

    def find_message(self, handoff_id: str, author: Author, message_id: str) -> tuple[int, Message] | None:
        """Return a message by its message id: its row id and itself."""
        statement = sa.select(message).where(*_by(handoff_id, author), message.c.message_id == message_id)
        row = self._connection.execute(statement).first()
        return None if row is None else (row.id, to_message(row))

    def operator_rows(self, handoff_id: str, *, created_at: int | None = None) -> list[OperatorRow]:
        """Return agents' messages, oldest first; only those of one moment (epoch ms) when it is given."""
        statement = sa.select(message).where(*_by(handoff_id))
        if created_at is not None:
            statement = statement.where(message.c.created_at == created_at)
        rows = self._connection.execute(statement.order_by(message.c.created_at, message.c.id))
        return [OperatorRow(row.id, row.hubspot_id, row.created_at, to_message(row)) for row in rows]

    def messages_of(self, handoff_id: str) -> list[Message]:
        """Return all messages of a handoff, oldest first."""
        mine = sa.select(message).where(message.c.handoff_id == handoff_id)
        rows = self._connection.execute(mine.order_by(message.c.created_at, message.c.id))
        return [to_message(row) for row in rows]

    def known_hubspot_ids(self, handoff_id: str, ids: Iterable[str]) -> set[str]:
        """Return which of HubSpot's message ids we have published or received."""
        wanted = list(ids)
        mine = message.c.handoff_id == handoff_id
        ours = sa.select(message.c.hubspot_id).where(mine, message.c.hubspot_id.in_(wanted))
        theirs = sa.select(message.c.message_id).where(*_by(handoff_id), message.c.message_id.in_(wanted))
        opening = sa.select(handoff.c.opening_id).where(handoff.c.id == handoff_id, handoff.c.opening_id.in_(wanted))
        return {found for one in (ours, theirs, opening) for found in self._connection.scalars(one)}

    def operator_wrote_since(self, handoff_id: str, since_ms: int) -> bool:
        """Return True when an operator's message is newer than ``since_ms`` (epoch ms)."""
        statement = sa.select(message.c.id).where(*_by(handoff_id), message.c.created_at > since_ms)
        return self._connection.execute(statement.limit(1)).first() is not None

    def set_message(self, row_id: int, **values: Any) -> None:
        """Change columns of a message: ``status``, ``error``, ``text``, ``hubspot_id``, ``event_id``."""
        self._connection.change(self._say.update_message(tuple(values)), {**values, "row_id": row_id})

    def set_status(
        self, row_id: int, status: MessageStatus, *, unless: Collection[MessageStatus], error: str | None = None
    ) -> bool:
        """Change how far a message has come, unless it is in one of some states; False then."""
        say = self._say.set_status(tuple(one.value for one in unless))
        return self._connection.row(say, {"row_id": row_id, "status": status.value, "error": error}) is not None

    def set_attachments(self, row_id: int, attachments: Sequence[Attachment], **values: Any) -> None:
        """Store a message's attachments, as they are now, and further columns as :meth:`set_message` does."""
        self.set_message(row_id, attachments=codec.dumps(codec.parts_to_json(attachments)), **values)

    def content_of(self, row_id: int, position: int) -> bytes | None:
        """Return a file's bytes, while HubSpot does not have them."""
        found = self._connection.scalar(
            sa.select(blob.c.content).where(blob.c.message_row == row_id, blob.c.position == position)
        )
        return None if found is None else bytes(found)

    def drop_contents(self, row_id: int) -> None:
        """Delete the bytes of a message's files."""
        self._connection.change(self._say.drop_contents, {"row_id": row_id})
