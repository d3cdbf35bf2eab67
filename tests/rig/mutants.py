"""The product broken on purpose. Each mutant must fail the rig; none of this is in the package.

They put a subclass where the package makes its own object, before the app is made.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, ClassVar

import sqlalchemy as sa

from flask_hubspot_hitl.dispatch.tasks import Outcome
from flask_hubspot_hitl.handoffs import parts, topics
from flask_hubspot_hitl.handoffs.emission import Emitter
from flask_hubspot_hitl.handoffs.intake import Intake
from flask_hubspot_hitl.hubspot.events import Inbound, Poison
from flask_hubspot_hitl.ledger import Event, EventState, Lease
from flask_hubspot_hitl.ledger import queue as lanes
from flask_hubspot_hitl.ledger.queue import Queue
from flask_hubspot_hitl.ledger.schema import event, in_state

PREFETCH = 20
WRITE_BEHIND_SECONDS = 0.2


class AckFirstIntake(Intake):
    """Ack before commit: HubSpot has its 2xx, and the events are stored a moment later, as by a cache behind it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def accept(self, items: Sequence[Inbound | Poison], *, hint: bool = False) -> int:
        if self._thread is None:
            self._thread = threading.Thread(target=self._store, daemon=True)
            self._thread.start()
        self._waiting.put(items)
        return len(items)

    def _store(self) -> None:
        while True:
            time.sleep(WRITE_BEHIND_SECONDS)
            while not self._waiting.empty():
                super().accept(self._waiting.get())


class DoneFirstEmitter(Emitter):
    """Done before emit: the event is settled, then its receivers are called."""

    def run(self, event: Event, lease: Lease) -> Outcome:
        with self._ledger.write() as tx:
            tx.queue.finish(event, EventState.DONE, now=self._ledger.now_ms())
        return super().run(event, lease)


class NoLeaseQueue(Queue):
    """No lease: a lane that is being run can be claimed by anybody."""

    def take(self, *, ttl_ms: int, **which: Any) -> Lease | None:
        return super().take(ttl_ms=0, **which)

    def heartbeat(self, leases: Iterable[Lease], *, now: int, ttl_ms: int) -> None:
        """There is nothing to prolong."""


class PrefetchingQueue(Queue):
    """Prefetching a lane: its first events are listed at the claim, and worked through without looking again."""

    _lists: ClassVar[dict[tuple[str, int], list[int]]] = {}

    def take(self, **which: Any) -> Lease | None:
        return self.claim(**which)

    def begun(self, lease: Lease) -> Event | None:
        return self.head(lease)

    def finish_and_take(self, lease: Lease, taken: Event, *, now: int) -> bool:
        is_done = self.finish_held(lease, taken, now=now)
        lease.head = self.head(lease) if is_done else None
        return is_done

    def head(self, lease: Lease) -> Event | None:
        listed = self._lists.get((lease.lane, lease.fence), [])
        return self._head_of(lease, listed) or self._head_of(lease, self._list(lease))

    def _list(self, lease: Lease) -> list[int]:
        waiting = sa.select(event.c.id).where(event.c.lane == lease.lane, in_state(EventState.PENDING))
        listed = list(self._connection.scalars(waiting.order_by(event.c.sort_at, event.c.id).limit(PREFETCH)))
        self._lists[lease.lane, lease.fence] = listed
        return listed

    def _head_of(self, lease: Lease, listed: list[int]) -> Event | None:
        for event_id in listed:
            pending = sa.update(event).where(event.c.id == event_id, in_state(EventState.PENDING))
            begun = pending.values(starts=event.c.starts + 1).returning(*event.c, sa.literal(0).label("gap"))
            row = self._connection.execute(begun).first()
            if row is not None:
                return lanes._event(row)
        return None


MUTANTS: dict[str, tuple[ModuleType, type[Any]]] = {
    "ack-before-commit": (parts, AckFirstIntake),
    "done-before-emit": (topics, DoneFirstEmitter),
    "no-lease": (lanes, NoLeaseQueue),
    "prefetch": (lanes, PrefetchingQueue),
}
"""Each with the module that makes objects of the class it replaces: its base class."""


def apply(name: str | None) -> None:
    """Break this process's copy of the product; None leaves it whole."""
    if name:
        put(*MUTANTS[name])


def put(module: ModuleType, mutant: type[Any]) -> None:
    """Have a module make objects of the mutant in place of its base class; RuntimeError if it makes none of these."""
    whole = mutant.__mro__[1]
    if vars(module).get(whole.__name__) is not whole:
        raise RuntimeError(f"{module.__name__} no longer uses {whole}: {mutant.__name__} would change nothing")
    setattr(module, whole.__name__, mutant)
