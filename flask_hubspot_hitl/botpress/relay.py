"""Run a bridge's own work in the ledger: operations in lanes, in order, retried, and given up in plain sight."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask

from ..dispatch.tasks import Dead, Done, Outcome, Retry, Task
from ..errors import DeliveryDelayed, HITLError, LedgerUnavailable
from ..ledger import Event, Lease, NewEvent, State, Transaction, lanes
from ..ledger.states import Facts, stored
from ..runtime import get_runtime
from .delivery import Payload

logger = logging.getLogger(__name__)

OUTAGE_MS = 86_400_000
"""Milliseconds after which an operation that waits for a service is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(Facts):
    """Hold what an operation is told. What is as by default is another operation's."""

    operation: str
    key: str
    """What the lane is named for: a user, a session, or a handoff."""
    payload: Payload = field(default_factory=dict, repr=False)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    """What is shown beside the payload: author, id, and so on."""
    parked: bool | None = None
    """The payload waits for the end of the handoff."""
    message_id: str | None = None
    more: dict[str, Any] = field(default_factory=dict, repr=False)
    """Further fields of a message to the bot."""
    event: Payload = field(default_factory=dict, repr=False)
    """A custom event for the bot."""
    conversation: str = ""
    since: int = 0
    """Epoch ms."""
    polls: int | None = None
    """How often the bot's messages were read already."""
    user: str | None = None
    made_at: int | None = None
    """Epoch ms at which the session began."""


Operation = Callable[[Event, Told], Outcome | None]
"""Runs an event; None: it is done."""
Lost = Callable[[Transaction, Event, Told], None]
"""Is told of an event that is given up."""


class NotYet(Exception):
    """Raise it in an operation whose time has not come: it is run again in ``seconds``, and no attempt is counted."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(slots=True, kw_only=True, eq=False)
class BridgeState(State):
    """Hold what an operation remembers between two runs."""

    is_renewed: bool = field(default=False, metadata=stored("renewed"))
    """The other service had lost what the operation is about, and it was made anew once."""


class Relay(Task):
    """Run events of the topic ``botpress-<name>`` by the operations of :meth:`add`.

    Each runs in an app context and outside any transaction.
    An operation returns an outcome (None: done) or raises: :class:`NotYet`, ``DeliveryDelayed`` (a service is down: no
    attempt is counted), any other error of ours (given up at once), anything else (an attempt, of ``MAX_ATTEMPTS``).
    """

    def __init__(self, app: Flask, name: str) -> None:
        """Make it for one bridge of an app that has live agents.

        :raises RuntimeError: the extension is not on the app, or the bridge is already.
        """
        self._app = app
        self.topic = lanes.bridge_topic(name)
        """The topic of the bridge's events."""
        self._operations: dict[str, Operation] = {}
        self._lost: dict[str, Lost] = {}
        self._ledger = get_runtime(app).ledger
        get_runtime(app).add_task(self.topic, self)

    def add(self, operation: str, run: Operation, *, lost: Lost | None = None) -> None:
        """Have events with this operation run by ``run``; ``lost`` is told of one that is given up."""
        self._operations[operation] = run
        if lost is not None:
            self._lost[operation] = lost

    def put(
        self,
        tx: Transaction,
        told: Told,
        *,
        now: int,
        sort_at: int | None = None,
        due_at: int | None = None,
        dedupe: str | None = None,
        lane: str | None = None,
    ) -> bool:
        """Put an operation into the lane of its key; False when ``dedupe`` was put before. Times are epoch ms."""
        new = NewEvent(
            dedupe_key=f"{self.topic}:{dedupe or uuid.uuid4().hex}",
            lane=lane or lanes.bridge(self.topic, told.key),
            topic=self.topic,
            sort_at=now if sort_at is None else sort_at,
            payload=told.to_json(),
            due_at=due_at,
        )
        return tx.queue.put([new], now=now) == 1

    def reserve(self, tx: Transaction, key: str, *, now: int) -> None:
        """Lock the lane of ``key``, before what the bridge remembers: the dispatcher locks in that order too."""
        tx.queue.reserve(lanes.bridge(self.topic, key), now=now)

    def write(self, *keys: str) -> AbstractContextManager[Transaction]:
        """Write what follows from a call that has ended, and put operations into the lanes of ``keys``.

        :raises LaneTaken: when the task at work lost its lane meanwhile, to an erasure for one.
        """
        return self._ledger.write_at_work(*(lanes.bridge(self.topic, key) for key in keys))

    def wake(self) -> None:
        """Have a thread look for due lanes; call it after a commit that put something in."""
        get_runtime(self._app).dispatcher.wake()

    # The dispatcher's three questions --------------------------------------------------------------------

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Run the event's operation."""
        told = Told.from_json(event.payload)
        operation = self._operations.get(told.operation)
        if operation is None:
            return Dead("this version knows no such operation")
        now = self._ledger.now_ms()
        try:
            with self._app.app_context():
                return operation(event, told) or Done()
        except NotYet as error:
            return Retry("its time has not come", at_ms=now + int(error.seconds * 1000), is_planned=True)
        except DeliveryDelayed as error:
            if now - event.received_at >= OUTAGE_MS:
                return Dead(str(error))
            wait = error.retry_after
            least_ms = 500 if error.is_failure else 0
            return Retry(str(error), at_ms=None if wait is None else now + max(least_ms, int(wait * 1000)))
        except LedgerUnavailable:
            raise
        except HITLError as error:
            return Dead(str(error))

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Tell the bridge that an event is given up."""
        told = Told.from_json(event.payload)
        lost = self._lost.get(told.operation)
        if lost is not None:
            lost(tx, event, told)
