"""Name the task that runs the events of each topic."""

from __future__ import annotations

import logging

from flask import Flask

from ..dispatch import housekeeping
from ..dispatch.tasks import Task
from ..hubspot.events import Kind
from ..ledger import Topic
from ..portals import api_version, journal
from ..portals.clients import Services
from . import accounts, queue
from .emission import Emitter
from .erasing import EraseTask, WipeTask
from .hearing import hears
from .inbound import InboundTask
from .journal import JournalTask, LifecycleTask
from .looking_back import LookingBack
from .outbound import AssignTask, CloseTask, NoteTask, OpenTask, ReceiptTask
from .parking import GapTask, UnparkTask
from .sweeps import LookBackTask, ReconcileTask, ResumeTask, SweepTask
from .tickets import TicketNoteTask, TicketTask
from .timeouts import AssignmentTimeoutTask, IdleTask
from .user_messages import MessageTask

logger = logging.getLogger(__name__)


def tasks_of(app: Flask, services: Services) -> dict[str, Task]:
    """Return an app's tasks, by the topic of the event."""
    settings, ledger = services.settings, services.ledger
    emitter = Emitter(app, services)
    inbound = InboundTask(services, emitter)
    looking_back = LookingBack(services, inbound.history)
    told = (Kind.MESSAGE, Kind.ASSIGNED, Kind.STATUS, Kind.RESTORED, Kind.DELETED)
    return {
        **{kind.value: inbound for kind in told},
        Topic.SIGNAL: inbound,
        Topic.ACCOUNT_REMOVED: inbound,
        Topic.INBOX: inbound,
        Topic.ACCOUNTS: accounts.AccountsTask(services),
        Kind.PRIVACY_DELETED.value: EraseTask(services, inbound.history),
        Kind.NEW_MESSAGE.value: GapTask(services, inbound),
        Topic.UNPARK: UnparkTask(services),
        Topic.ASSIGNMENT_TIMEOUT: AssignmentTimeoutTask(emitter, services, inbound.history),
        Topic.IDLE: IdleTask(emitter, services, inbound.history),
        Topic.SWEEP: SweepTask(services),
        Topic.LOOK_BACK: LookBackTask(services, looking_back),
        Topic.RECONCILE: ReconcileTask(services, looking_back),
        Topic.RESUME: ResumeTask(services),
        Topic.OPEN: OpenTask(services),
        Topic.NOTE: NoteTask(services),
        Topic.ASSIGN: AssignTask(services),
        Topic.PUBLISH: MessageTask(services),
        Topic.CLOSE: CloseTask(services),
        Topic.RECEIPT: ReceiptTask(services),
        Topic.TICKET: TicketTask(services),
        Topic.TICKET_NOTE: TicketNoteTask(services),
        Topic.PRUNE: housekeeping.PruneTask(settings, ledger),
        Topic.JOURNAL: JournalTask(services),
        Topic.LIFECYCLE: LifecycleTask(services),
        Topic.WIPE: WipeTask(ledger),
        Topic.QUEUE: queue.QueueTask(ledger, lambda: hears(queue.SIGNAL, app)),
    }


def put_first(app: Flask, services: Services) -> None:
    """Queue what a process that begins to dispatch has to see to, and log which of HubSpot's versions end soon.

    :raises LedgerUnavailable: when it can't be stored.
    """
    settings, ledger = services.settings, services.ledger
    SweepTask(services).put_start()
    with ledger.write() as tx:
        if settings.journal:
            journal.schedule(tx, now=ledger.now_ms())
        if hears(queue.SIGNAL, app):
            queue.schedule(tx, now=ledger.now_ms())
        housekeeping.schedule(tx, now=ledger.now_ms())
        ending = list(api_version.warnings(tx, settings))
    for one in ending:
        logger.warning("%s", one)
