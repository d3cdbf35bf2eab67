"""Handoffs, their threads and their messages, as rows. Runs inside the caller's transaction.

Stores and finds; what may happen to a handoff is decided in ``handoffs``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from ..clock import to_datetime, to_ms
from ..domain import Attachment, Author, CloseReason, Handoff, HandoffState, Message, MessageStatus
from . import codec
from .connection import Connection, Row
from .database import Database
from .schema import blob, handoff, is_open, is_starting, message, thread

_given = sa.bindparam


class Statements:
    """What is asked with every webhook, message and signal, made once."""

    def __init__(self, insert: Any, each: Callable[[str], sa.Select[Any]]) -> None:
        of_conversation = sa.select(handoff).where(handoff.c.conversation_id == _given("conversation_id"))
        self.get = sa.select(handoff).where(handoff.c.id == _given("handoff_id"))
        self.get_locked = self.get.with_for_update()
        self.open_of = of_conversation.where(is_open)
        self.open_of_locked = self.open_of.with_for_update()
        self.newest_of = of_conversation.order_by(handoff.c.seq.desc()).limit(1)
        self._updates: dict[tuple[str, ...], sa.Update] = {}
        self.starting = sa.select(handoff.c.portal_id).where(is_starting, handoff.c.portal_id == _given("portal_id"))
        self.starting = self.starting.limit(1)
        self.of_thread = sa.select(thread.c.thread_id, thread.c.handoff_id).where(
            thread.c.portal_id == _given("portal_id"), thread.c.thread_id == _given("thread_id")
        )
        self.of_threads = sa.select(thread.c.thread_id, thread.c.handoff_id).where(
            thread.c.portal_id == _given("portal_id"), thread.c.thread_id.in_(each("thread_ids"))
        )
        new = insert(message).values({name: _given(name) for name in _MESSAGE}).on_conflict_do_nothing()
        self.insert_message = new.returning(message.c.id)
        self.get_message = sa.select(message).where(message.c.id == _given("row_id"))

    def update(self, names: tuple[str, ...]) -> sa.Update:
        """Change these columns of a handoff."""
        made = self._updates.get(names)
        if made is None:
            made = sa.update(handoff).where(handoff.c.id == _given("handoff_id"))
            self._updates[names] = made = made.values({name: _given(name) for name in names})
        return made


_ACCOUNTS = (
    sa.select(handoff.c.portal_id, handoff.c.channel_id, handoff.c.account_id)
    .where(handoff.c.account_id.in_(_given("accounts", expanding=True)))
    .distinct()
)
_MESSAGE = (
    "handoff_id",
    "author",
    "message_id",
    "text",
    "html",
    "attachments",
    "operator",
    "created_at",
    "status",
    "error",
)


@dataclass(slots=True, kw_only=True)
class HandoffRecord:
    """A handoff and what only we need to know of it. Times are epoch ms, in HubSpot's clock where marked."""

    handoff: Handoff
    channel_id: str
    account_id: str | None
    integration_thread_id: str
    sender: dict[str, str] | None
    recipient: dict[str, str] | None
    opening_id: str | None = None
    """HubSpot's id of the first message."""
    status_mark: int | None = None
    """HubSpot's time of the newest open/close applied."""
    assigned_mark: int | None = None
    """HubSpot's time of the newest assignment applied."""
    stored: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """The row as it was read or written last; None when it was not."""

    @property
    def closed_ms(self) -> int:
        """When it was closed, in epoch ms; 0 while it is open."""
        return to_ms(self.handoff.closed_at) if self.handoff.closed_at else 0


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """An agent's message: its row, its id in the Conversations API where it was read there, and epoch ms."""

    row: int
    read_id: str | None
    created_at: int
    message: Message


def _values(record: HandoffRecord) -> dict[str, Any]:
    value = record.handoff
    return {
        "id": value.id,
        "conversation_id": value.conversation_id,
        "portal_id": value.portal_id,
        "inbox_id": value.inbox_id,
        "channel_id": record.channel_id,
        "account_id": record.account_id,
        "integration_thread_id": record.integration_thread_id,
        "thread_id": value.thread_id,
        "state": value.state.value,
        "sender": codec.dumps(record.sender),
        "recipient": codec.dumps(record.recipient),
        "contact": codec.dumps(codec.contact_to_json(value.contact)),
        "name": value.name,
        "title": value.title,
        "description": value.description,
        "attributes": codec.dumps(dict(value.attributes)),
        "operator": codec.dumps(codec.operator_to_json(value.operator)),
        "opened_at": to_ms(value.opened_at) if value.opened_at else 0,
        "assigned_at": to_ms(value.assigned_at) if value.assigned_at else None,
        "closed_at": to_ms(value.closed_at) if value.closed_at else None,
        "reason": value.reason.value if value.reason else None,
        "detail": value.detail,
        "opening_id": record.opening_id,
        "status_mark": record.status_mark,
        "assigned_mark": record.assigned_mark,
    }


def _record(row: Row) -> HandoffRecord:
    return HandoffRecord(
        handoff=Handoff(
            id=row.id,
            conversation_id=row.conversation_id,
            portal_id=row.portal_id,
            inbox_id=row.inbox_id,
            thread_id=row.thread_id,
            state=HandoffState(row.state),
            contact=codec.contact_from_json(codec.loads(row.contact)),
            name=row.name,
            operator=codec.operator_from_json(codec.loads(row.operator)),
            title=row.title,
            description=row.description,
            attributes=codec.loads(row.attributes) or {},
            opened_at=to_datetime(row.opened_at),
            assigned_at=None if row.assigned_at is None else to_datetime(row.assigned_at),
            closed_at=None if row.closed_at is None else to_datetime(row.closed_at),
            reason=CloseReason(row.reason) if row.reason else None,
            detail=row.detail,
        ),
        channel_id=row.channel_id,
        account_id=row.account_id,
        integration_thread_id=row.integration_thread_id,
        sender=codec.loads(row.sender),
        recipient=codec.loads(row.recipient),
        opening_id=row.opening_id,
        status_mark=row.status_mark,
        assigned_mark=row.assigned_mark,
        stored=row._asdict(),
    )


def _message(row: Row) -> Message:
    return Message(
        message_id=row.message_id,
        author=Author(row.author),
        text=row.text,
        html=row.html,
        attachments=tuple(codec.attachment_from_json(one) for one in codec.loads(row.attachments) or ()),
        operator=codec.operator_from_json(codec.loads(row.operator)),
        created_at=to_datetime(row.created_at),
        status=MessageStatus(row.status),
        error=row.error,
    )


class Records:
    """Handoffs, threads and messages, within one transaction."""

    def __init__(self, connection: Connection, database: Database, statements: Statements) -> None:
        self._connection = connection
        self._database = database
        self._say = statements

    def insert(self, record: HandoffRecord) -> bool:
        """Store a new handoff; False when its conversation already has an open one."""
        statement = self._database.insert(handoff).values(**_values(record)).on_conflict_do_nothing()
        return self._connection.execute(statement.returning(handoff.c.seq)).first() is not None

    def update(self, record: HandoffRecord) -> None:
        """Store what has been changed of a handoff."""
        values, stored = _values(record), record.stored
        changed = {name: value for name, value in values.items() if stored is None or stored[name] != value}
        if changed:
            self._connection.change(self._say.update(tuple(changed)), {**changed, "handoff_id": values["id"]})
            record.stored = values

    def delete(self, handoff_id: str) -> None:
        """Remove a handoff that never was."""
        self._connection.execute(sa.delete(handoff).where(handoff.c.id == handoff_id))

    def get(self, handoff_id: str, *, lock: bool = False) -> HandoffRecord | None:
        """A handoff by its id; ``lock`` holds it until the transaction ends."""
        return self._one(self._say.get_locked if lock else self._say.get, handoff_id=handoff_id)

    def open_of(self, conversation_id: str, *, lock: bool = False) -> HandoffRecord | None:
        """The conversation's open handoff."""
        return self._one(self._say.open_of_locked if lock else self._say.open_of, conversation_id=conversation_id)

    def newest_of(self, conversation_id: str) -> HandoffRecord | None:
        """The conversation's newest handoff, open or not."""
        return self._one(self._say.newest_of, conversation_id=conversation_id)

    def recent(self, limit: int) -> list[Handoff]:
        """The newest handoffs, newest first."""
        rows = self._connection.execute(sa.select(handoff).order_by(handoff.c.seq.desc()).limit(limit))
        return [_record(row).handoff for row in rows]

    def to_reconcile(self, *, closed_since: int | None, portal_id: str | None = None) -> list[HandoffRecord]:
        """Open handoffs with a thread; also the conversations' newest that were closed since ``closed_since``.

        Of one portal, or of all.
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
        return [_record(row) for row in self._connection.execute(statement)]

    def open_with(self, portal_id: str, channel_id: str) -> list[HandoffRecord]:
        """A portal's open handoffs through a channel, the oldest first."""
        mine = sa.select(handoff).where(handoff.c.portal_id == portal_id, handoff.c.channel_id == channel_id, is_open)
        return [_record(row) for row in self._connection.execute(mine.order_by(handoff.c.seq))]

    def of_thread(self, thread_id: str) -> list[HandoffRecord]:
        """The handoffs, one a portal, that HubSpot keeps in a thread."""
        kept = sa.select(thread.c.handoff_id).where(thread.c.thread_id == thread_id)
        return [_record(row) for row in self._connection.execute(sa.select(handoff).where(handoff.c.id.in_(kept)))]

    def count_by_state(self) -> dict[str, int]:
        """How many handoffs are in which state."""
        rows = self._connection.execute(sa.select(handoff.c.state, sa.func.count()).group_by(handoff.c.state))
        return {state: int(count) for state, count in rows}

    def _one(self, statement: sa.Select[Any], **values: str) -> HandoffRecord | None:
        row = self._connection.row(statement, values)
        return None if row is None else _record(row)

    def starting_portals(self, portal_ids: Collection[str]) -> set[str]:
        """Those of the portals that have a handoff whose thread is not known yet."""
        return {one for one in portal_ids if self._connection.row(self._say.starting, {"portal_id": one})}

    def own_accounts(self, account_ids: Collection[str]) -> set[tuple[str, str, str]]:
        """Those of the channel accounts that a handoff of ours has used: (portal, channel, account)."""
        if not account_ids:
            return set()
        rows = self._connection.execute(_ACCOUNTS, {"accounts": list(account_ids)})
        return {(row[0], row[1], row[2]) for row in rows}

    def handoffs_of_threads(self, threads: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """(portal id, thread id) → handoff id, for those of the threads that are ours."""
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
        """Remember whose thread it is; the newest handoff has it."""
        self._connection.execute(
            self._database.insert(thread)
            .values(portal_id=portal_id, thread_id=thread_id, handoff_id=handoff_id)
            .on_conflict_do_update(index_elements=["portal_id", "thread_id"], set_={"handoff_id": handoff_id})
        )

    def insert_message(
        self,
        handoff_id: str,
        value: Message,
        *,
        contents: Sequence[bytes | None] = (),
    ) -> int | None:
        """Store a message and its files' bytes. Returns its row id, None when its id is already there."""
        values = {
            "handoff_id": handoff_id,
            "author": value.author.value,
            "message_id": value.message_id,
            "text": value.text,
            "html": value.html,
            "attachments": codec.dumps([codec.attachment_to_json(one) for one in value.attachments]),
            "operator": codec.dumps(codec.operator_to_json(value.operator)),
            "created_at": to_ms(value.created_at) if value.created_at else 0,
            "status": value.status.value,
            "error": value.error,
        }
        row = self._connection.row(self._say.insert_message, values)
        row_id: int | None = None if row is None else row.id
        if row_id is not None:
            for position, content in enumerate(contents):
                if content is not None:
                    self.put_content(row_id, position, content)
        return row_id

    def put_content(self, row_id: int, position: int, content: bytes) -> None:
        """Keep a file's bytes until HubSpot has them."""
        self._connection.execute(sa.insert(blob).values(message_row=row_id, position=position, content=content))

    def get_message(self, row_id: int) -> Message | None:
        """A message by its row."""
        row = self._connection.row(self._say.get_message, {"row_id": row_id})
        return None if row is None else _message(row)

    def find_message(self, handoff_id: str, author: Author, message_id: str) -> tuple[int, Message] | None:
        """A message by its id: its row id and itself."""
        statement = sa.select(message).where(
            message.c.handoff_id == handoff_id,
            message.c.author == author.value,
            message.c.message_id == message_id,
        )
        row = self._connection.execute(statement).first()
        return None if row is None else (row.id, _message(row))

    def operator_rows(self, handoff_id: str, *, created_at: int | None = None) -> list[OperatorRow]:
        """Agents' messages, oldest first; only those of one moment (epoch ms) when it is given."""
        statement = sa.select(message).where(
            message.c.handoff_id == handoff_id, message.c.author == Author.OPERATOR.value
        )
        if created_at is not None:
            statement = statement.where(message.c.created_at == created_at)
        rows = self._connection.execute(statement.order_by(message.c.created_at, message.c.id))
        return [OperatorRow(row.id, row.hubspot_id, row.created_at, _message(row)) for row in rows]

    def messages_of(self, handoff_id: str) -> list[Message]:
        """All messages of a handoff, oldest first."""
        statement = (
            sa.select(message).where(message.c.handoff_id == handoff_id).order_by(message.c.created_at, message.c.id)
        )
        return [_message(row) for row in self._connection.execute(statement)]

    def known_hubspot_ids(self, handoff_id: str, ids: Iterable[str]) -> set[str]:
        """Those of HubSpot's message ids that we have published or received."""
        wanted = list(ids)
        ours = sa.select(message.c.hubspot_id).where(
            message.c.handoff_id == handoff_id, message.c.hubspot_id.in_(wanted)
        )
        theirs = sa.select(message.c.message_id).where(
            message.c.handoff_id == handoff_id,
            message.c.author == Author.OPERATOR.value,
            message.c.message_id.in_(wanted),
        )
        opening = sa.select(handoff.c.opening_id).where(handoff.c.id == handoff_id, handoff.c.opening_id.in_(wanted))
        return {found for one in (ours, theirs, opening) for found in self._connection.scalars(one)}

    def operator_wrote_since(self, handoff_id: str, since_ms: int) -> bool:
        """True when an operator's message is newer than ``since_ms``."""
        statement = sa.select(message.c.id).where(
            message.c.handoff_id == handoff_id,
            message.c.author == Author.OPERATOR.value,
            message.c.created_at > since_ms,
        )
        return self._connection.execute(statement.limit(1)).first() is not None

    def set_message(self, row_id: int, **values: Any) -> None:
        """Change columns of a message: ``status``, ``error``, ``text``, ``hubspot_id``, ``event_id``."""
        self._connection.execute(sa.update(message).where(message.c.id == row_id).values(**values))

    def set_attachments(self, row_id: int, attachments: Sequence[Attachment]) -> None:
        """Store what has become of a message's files."""
        text = codec.dumps([codec.attachment_to_json(one) for one in attachments])
        self._connection.execute(sa.update(message).where(message.c.id == row_id).values(attachments=text))

    def content_of(self, row_id: int, position: int) -> bytes | None:
        """A file's bytes, while HubSpot does not have them."""
        found = self._connection.scalar(
            sa.select(blob.c.content).where(blob.c.message_row == row_id, blob.c.position == position)
        )
        return None if found is None else bytes(found)

    def drop_contents(self, row_id: int) -> None:
        """Forget a message's files' bytes."""
        self._connection.execute(sa.delete(blob).where(blob.c.message_row == row_id))

    def erase(self, record: HandoffRecord) -> None:
        """Forget everything personal of a handoff: contact, texts, files. Ids and times stay."""
        handoff_id = record.handoff.id
        rows = sa.select(message.c.id).where(message.c.handoff_id == handoff_id)
        self._connection.execute(sa.delete(blob).where(blob.c.message_row.in_(rows)))
        self._connection.execute(
            sa.update(message)
            .where(message.c.handoff_id == handoff_id)
            .values(text="", html=None, attachments="[]", error=None)
        )
        record.sender = None
        record.handoff = replace(record.handoff, contact=None, name=None, title=None, description=None, attributes={})
        self.update(record)
