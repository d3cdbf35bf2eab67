"""The ledger's door: transactions, and the few statements that are neither queue nor handoff.

Above this module nobody knows that there is SQL.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from ..clock import Clock, wall_ms
from ..errors import LedgerUnavailable
from . import codec, lanes, migrations, queue, records
from .bridges import Bridges
from .buckets import Buckets
from .channels import Channels
from .connection import Connection
from .database import Database, Scope
from .installations import Installations
from .notify import FileWatch, Listener, Notifier, QuietWatch, Watch
from .once import Once
from .schema import EventState, event, in_state, is_given_up, lane, message, meta
from .signs import Signs
from .states import KindOf, State, no_kind

_TIMERS = [kind.prefix for kind in lanes.Lane if kind.is_timer]
_waiting = sa.and_(in_state(EventState.PENDING), *(event.c.lane.not_like(f"{prefix}:%") for prefix in _TIMERS))
"""What waits for us, not for its time."""


class _Statements:
    """Made once a database; see :class:`.connection.Connection`."""

    def __init__(self, database: Database) -> None:
        self.queue = queue.Statements(database.insert)
        self.records = records.Statements(database.insert, database.each)


class Transaction:
    """One transaction: ``queue`` for events and lanes, ``records`` for handoffs and messages."""

    def __init__(
        self, connection: Connection, database: Database, statements: _Statements, kind_of: KindOf = no_kind
    ) -> None:
        self._connection = connection
        self._kind_of = kind_of
        self.queue = queue.Queue(connection, statements.queue)
        self.records = records.Records(connection, database, statements.records)
        self._database = database

    @property
    def buckets(self) -> Buckets:
        """The request budgets that all processes share."""
        return Buckets(self._connection, self._database)

    @property
    def installations(self) -> Installations:
        """The portals that have installed the app, and their tokens."""
        return Installations(self._connection, self._database)

    @property
    def channels(self) -> Channels:
        """Our channel, and its accounts in the portals' inboxes."""
        return Channels(self._connection, self._database)

    @property
    def once(self) -> Once:
        """What may be used once."""
        return Once(self._connection, self._database)

    @property
    def signs(self) -> Signs:
        """Which processes dispatch."""
        return Signs(self._connection, self._database)

    @property
    def bridges(self) -> Bridges:
        """What bridges to other services remember."""
        return Bridges(self._connection, self._database)

    def get_meta(self, name: str) -> str | None:
        """A remembered value."""
        found: str | None = self._connection.scalar(sa.select(meta.c.value).where(meta.c.name == name))
        return found

    def set_meta(self, name: str, value: str) -> None:
        """Remember a value."""
        self._connection.execute(
            self._database.insert(meta)
            .values(name=name, value=value)
            .on_conflict_do_update(index_elements=["name"], set_={"value": value})
        )

    def prove(self) -> None:
        """Write something that nobody sees and that leaves nothing: a row of our own, so that no lock is shared."""
        name = f"proof:{secrets.token_hex(8)}"
        self._connection.execute(self._database.insert(meta).values(name=name, value=""))
        self._connection.execute(sa.delete(meta).where(meta.c.name == name))

    # What an operator looks at and does -----------------------------------------------------------------

    def dead_events(self, limit: int = 100) -> list[dict[str, Any]]:
        """The events that were given up or could not be read, newest first."""
        rows = self._connection.execute(sa.select(event).where(is_given_up).order_by(event.c.id.desc()).limit(limit))
        return [_event_facts(row) for row in rows]

    def waiting_events(self, limit: int = 100) -> list[dict[str, Any]]:
        """The events that are still to be run, oldest first, without what waits for its time."""
        rows = self._connection.execute(sa.select(event).where(_waiting).order_by(event.c.id).limit(limit))
        return [_event_facts(row) for row in rows]

    def dead_event(self, event_id: int) -> dict[str, Any] | None:
        """One of them, with its payload and what each receiver did."""
        row = self._connection.execute(sa.select(event).where(event.c.id == event_id, is_given_up)).first()
        if row is None:
            return None
        return {
            **_event_facts(row),
            "payload": codec.loads(row.payload),
            "receivers": self._state(row.topic, row.progress).verdicts(),
        }

    def retry_dead(self, event_id: int, *, now: int) -> bool:
        """Put a dead event back at its place in its lane; receivers that accepted it are not asked again."""
        row = self._connection.execute(
            sa.select(event.c.lane, event.c.topic, event.c.progress).where(
                event.c.id == event_id, in_state(EventState.DEAD), event.c.lane.is_not(None)
            )
        ).first()
        if row is None:
            return False
        state = self._state(row.topic, row.progress)
        state.forget_verdicts()
        self._connection.execute(
            sa.update(event)
            .where(event.c.id == event_id)
            .values(
                state=int(EventState.PENDING),
                progress=codec.dumps(state.to_json()),
                attempts=0,
                starts=0,
                error=None,
                done_at=None,
                received_at=now,
            )
        )
        self.queue.touch(row.lane, due_at=now)
        return True

    def status(self, *, now: int) -> dict[str, Any]:
        """Figures for ``flask hubspot-hitl status``. Ages are in seconds."""
        counts = {
            int(state): int(count)
            for state, count in self._connection.execute(
                sa.select(event.c.state, sa.func.count()).group_by(event.c.state)
            )
        }
        pending, oldest = self._connection.execute(
            sa.select(sa.func.count(), sa.func.min(event.c.received_at)).where(_waiting)
        ).one()
        leased = self._connection.scalar(
            sa.select(sa.func.count()).select_from(lane).where(lane.c.owner.is_not(None), lane.c.due_at > now)
        )
        hung = self._connection.execute(sa.select(lane.c.key, lane.c.owner).where(lane.c.hung_since.is_not(None))).all()
        return {
            "pending": int(pending),
            "oldest_pending_seconds": None if oldest is None else max(0, now - int(oldest)) / 1000,
            "leased": int(leased or 0),
            "parked": counts.get(EventState.PARKED, 0),
            "done": counts.get(EventState.DONE, 0),
            "dead": counts.get(EventState.DEAD, 0),
            "quarantined": counts.get(EventState.QUARANTINED, 0),
            "hung_lanes": sorted(one.key for one in hung),
            "hung_by_process": dict(Counter(one.owner for one in hung)),
            "handoffs": self.records.count_by_state(),
        }

    def count(self, state: EventState, portal_id: str | None = None) -> int:
        """How many events are in a state, of one portal or of all."""
        statement = sa.select(sa.func.count()).select_from(event).where(in_state(state))
        if portal_id is not None:
            statement = statement.where(event.c.portal_id == portal_id)
        return int(self._connection.scalar(statement) or 0)

    # Parked events: of threads that we do not know yet ---------------------------------------------------

    def parked(self, portal_id: str) -> list[dict[str, Any]]:
        """A portal's parked events, in order of arrival: id, thread_id, received_at, topic, payload."""
        rows = self._connection.execute(
            sa.select(event.c.id, event.c.thread_id, event.c.received_at, event.c.topic, event.c.payload)
            .where(in_state(EventState.PARKED), event.c.portal_id == portal_id)
            .order_by(event.c.id)
        )
        return [{**row._mapping, "payload": codec.loads(row.payload)} for row in rows]

    def unpark(self, event_ids: Sequence[int], *, lane_key: str, handoff_id: str | None, now: int) -> None:
        """Move parked events into their lane."""
        self.queue.touch(lane_key, due_at=now)
        self._connection.execute(
            sa.update(event)
            .where(in_state(EventState.PARKED), event.c.id.in_(event_ids))
            .values(state=int(EventState.PENDING), lane=lane_key, handoff_id=handoff_id)
        )

    def drop_parked(self, event_ids: list[int]) -> None:
        """Forget parked events: noise of threads that are not ours."""
        self._connection.execute(sa.delete(event).where(event.c.id.in_(event_ids), in_state(EventState.PARKED)))

    # A user's message that is not published yet ----------------------------------------------------------

    def cancel_unpublished(self, lane_key: str, *, now: int, topics: Sequence[str]) -> list[tuple[str, Any]]:
        """Cancel the events of an outbound lane that have surely not reached HubSpot.

        An event that has been begun (``starts``), or of which the last try may have been carried out, is left alone:
        its own run will settle it.

        :param topics: only events with one of these topics are cancelled.
        :returns: topic and payload of each cancelled event.
        """
        rows = self._connection.execute(
            sa.select(event.c.id, event.c.topic, event.c.payload, event.c.progress)
            .where(
                event.c.lane == lane_key,
                in_state(EventState.PENDING),
                event.c.starts == 0,
                event.c.topic.in_([str(topic) for topic in topics]),
            )
            .with_for_update()  # who runs the lane may begin one of them just now
        ).all()
        taken = [row for row in rows if not self._state(row.topic, row.progress).may_have_happened]
        if taken:
            self._connection.execute(
                sa.update(event)
                .where(event.c.id.in_([row.id for row in taken]))
                .values(state=int(EventState.DONE), done_at=now, error="the handoff ended")
            )
        return [(row.topic, codec.loads(row.payload)) for row in taken]

    def _state(self, topic: str, progress: str | None) -> State:
        return self._kind_of(topic).from_json(codec.loads(progress))

    def delete_lane(self, lane_key: str) -> None:
        """Remove a lane and its events: of a handoff that never was."""
        self._connection.execute(sa.delete(event).where(event.c.lane == lane_key))
        self._connection.execute(sa.delete(lane).where(lane.c.key == lane_key))

    def erase_payloads(self, handoff_id: str) -> None:
        """Forget what the finished events of a handoff brought; their dedupe keys stay."""
        self._connection.execute(
            sa.update(event)
            .where(event.c.handoff_id == handoff_id, event.c.state != EventState.PENDING)
            .values(payload=None, progress=None)
        )

    # Retention -------------------------------------------------------------------------------------------

    def forget_payloads(self, *, before: int, limit: int) -> int:
        """Empty what events that were done before ``before`` (ms) brought, oldest first; their keys stay."""
        chosen = (
            sa.select(event.c.id)
            .where(in_state(EventState.DONE), event.c.done_at < before, event.c.payload.is_not(None))
            .order_by(event.c.done_at)
            .limit(limit)
        )
        result = self._connection.execute(
            sa.update(event).where(event.c.id.in_(chosen.scalar_subquery())).values(payload=None, progress=None)
        )
        return int(result.rowcount)

    def prune(self, *, before: int, limit: int) -> int:
        """Delete events that were done before ``before`` (ms), oldest first, and what belongs to them."""
        chosen = list(
            self._connection.scalars(
                sa.select(event.c.id)
                .where(in_state(EventState.DONE), event.c.done_at < before)
                .order_by(event.c.done_at)
                .limit(limit)
            )
        )
        if chosen:
            self._connection.execute(sa.delete(event).where(event.c.id.in_(chosen)))
        return len(chosen)

    def prune_lanes(self, *, limit: int) -> int:
        """Delete idle lanes in which nothing is left."""
        chosen = (
            sa.select(lane.c.key)
            .where(
                lane.c.due_at.is_(None),
                lane.c.owner.is_(None),
                ~sa.exists().where(event.c.lane == lane.c.key, in_state(EventState.PENDING)),
            )
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        keys = list(self._connection.scalars(chosen))
        if keys:
            self._connection.execute(sa.delete(lane).where(lane.c.key.in_(keys)))
        return len(keys)

    def message_count(self, handoff_id: str) -> int:
        """How many messages a handoff has."""
        statement = sa.select(sa.func.count()).select_from(message).where(message.c.handoff_id == handoff_id)
        return int(self._connection.scalar(statement) or 0)


def _event_facts(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "state": EventState(row.state).name.lower(),
        "topic": row.topic,
        "portal_id": row.portal_id,
        "thread_id": row.thread_id,
        "handoff_id": row.handoff_id,
        "attempts": row.attempts,
        "received_at": row.received_at,
        "error": row.error,
    }


class _Opened:
    """A transaction as a context; generators would cost more than what many transactions do."""

    __slots__ = ("_check", "_make", "_scope")

    def __init__(self, scope: Scope, make: Callable[[Connection], Transaction], check: Callable[[], None]) -> None:
        self._scope = scope
        self._make = make
        self._check = check

    def __enter__(self) -> Transaction:
        self._check()
        return self._make(self._scope.__enter__())

    def __exit__(self, *error: Any) -> None:
        self._scope.__exit__(*error)


class Ledger:
    """One app's database: ``with ledger.read() as tx`` and ``with ledger.write() as tx``.

    :param schema: where new tables go on PostgreSQL, see :mod:`.migrations`; by default where the search path leads.
    :param is_testing: tells whether the app is being tested: then nothing is held open between two uses.
    :param kind_of: returns the state that the events of a topic have; by default nothing is known of states.
    """

    def __init__(
        self,
        url: str | sa.URL,
        clock: Clock,
        *,
        pool_size: int = 20,
        schema: str | None = None,
        is_testing: Callable[[], bool] = lambda: False,
        kind_of: KindOf = no_kind,
    ) -> None:
        self._kind_of = kind_of
        self._database = Database(url, clock, pool_size=pool_size, schema=schema, is_testing=is_testing)
        self._statements = _Statements(self._database)
        self._notifier = Notifier(self._database, self._channel)
        self.is_sqlite = self._database.is_sqlite
        self._deployment_id: str | None = None
        self.why_not: Callable[[], str | None] = lambda: None
        """Asked before each transaction until it answers None: why this is not the right store."""
        self._is_right = False
        self.migrated_from: int | None = None
        """The version that :meth:`create` found and brought up to this one's; None when there was nothing to do."""

    def create(self) -> None:
        """Make the tables or bring them up to this version. Nothing is held open afterwards: servers fork now.

        :raises LedgerUnavailable: when the database can't be reached, or a newer version made it.
        """
        try:
            self.migrated_from = self._database.create_schema()
        finally:
            self._database.let_go()

    def now_ms(self) -> int:
        """The time, in epoch ms: it goes on steadily, see :mod:`.timekeeping`."""
        return self._database.now_ms()

    def wall_ms(self) -> int:
        """The time that others go by, in epoch ms: what a signature's time, or HubSpot's, is compared with."""
        return wall_ms(self._database.clock)

    def was_set_back(self) -> bool:
        """True once after PostgreSQL's clock was set back."""
        keeper = self._database.timekeeper
        if keeper is None or not keeper.was_set_back:
            return False
        keeper.was_set_back = False
        return True

    @property
    def deployment_id(self) -> str:
        """Random, made with the database: the mark of what is ours at HubSpot."""
        if self._deployment_id is None:
            with self._database.read() as connection:
                self._deployment_id = migrations.deployment_id_of(connection)
        return self._deployment_id

    def exposed(self) -> str | None:
        """What is wrong with the rights of a SQLite file's folder, in words; None when nothing is."""
        return self._database.files.exposed() if self.is_sqlite else None

    def _check(self) -> None:
        if not self._is_right:
            reason = self.why_not()
            if reason is not None:
                raise LedgerUnavailable(reason)
            self._is_right = True

    def read(self) -> AbstractContextManager[Transaction]:
        """A transaction that only reads.

        :raises LedgerUnavailable: when the database can't be reached.
        """
        return _Opened(self._database.read(), self._transaction, self._check)

    def write(self) -> AbstractContextManager[Transaction]:
        """A transaction, committed at the end of the block.

        :raises LedgerUnavailable: when the database can't be reached or written; nothing was changed.
        """
        return _Opened(self._database.write(), self._transaction, self._check)

    def _transaction(self, connection: Connection) -> Transaction:
        return Transaction(connection, self._database, self._statements, self._kind_of)

    def notify(self) -> None:
        """Something was committed that may be due at once: wake the dispatchers of other processes."""
        self._notifier.notify()

    def watch(self, say_once: Callable[[str, object], None], *, poll: float | None = None) -> Watch:
        """What a dispatcher waits with for commits of others. ``say_once`` logs sparingly; ``poll`` is in seconds."""
        given = {} if poll is None else {"poll": poll}
        if self._database.is_testing():
            return QuietWatch(**given)
        if self.is_sqlite:
            return FileWatch(self._database.files, **given)
        return Listener(self._database, self._channel, say_once, **given)

    def _channel(self) -> str:
        return f"hubspot_hitl_{self.deployment_id}"

    def rest(self) -> None:
        """While the app is tested, give back all connections that nobody uses just now."""
        self._database.rest()

    def close(self) -> None:
        """Give all connections back."""
        self._notifier.close()
        self._database.close()
