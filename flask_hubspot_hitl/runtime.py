"""Hold everything of one app, and put it together; it is in ``app.extensions["hubspot_hitl"]``."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask, current_app

from .clock import Clock
from .config import PREFIX, Settings
from .dispatch import housekeeping
from .dispatch.dispatcher import GRACE_SECONDS, Dispatcher
from .dispatch.options import EngineOptions
from .dispatch.seldom import Seldom
from .dispatch.tasks import Task
from .errors import ConfigError
from .handoffs import accounts
from .handoffs.emission import Emitter
from .handoffs.erasing import EraseTask, WipeTask
from .handoffs.files import Links
from .handoffs.inbound import InboundTask
from .handoffs.intake import Intake
from .handoffs.journal import JournalTask, LifecycleTask
from .handoffs.looking_back import LookingBack
from .handoffs.outbound import AssignTask, CloseTask, NoteTask, OpenTask, ReceiptTask
from .handoffs.parking import GapTask, UnparkTask
from .handoffs.states import kind_of
from .handoffs.sweeps import LookBackTask, ReconcileTask, ResumeTask, SweepTask
from .handoffs.timeouts import AssignmentTimeoutTask
from .handoffs.user_messages import MessageTask
from .hubspot.events import Kind
from .ledger import SCHEMA, Ledger, Misconfigured, Topic, Transaction, file_name, locate
from .ledger.health import Health
from .portals import api_version, app_kind, journal
from .portals.clients import Services
from .portals.deployment import Adoption, Deployment

logger = logging.getLogger(__name__)


KEY = "hubspot_hitl"
MayInstall = Callable[[str | None], bool | Awaitable[bool]]
SERVING_THREADS = 4
"""Threads that run lanes in a process that serves, unless DISPATCHER_THREADS is set."""
MANY_APPS = 8
"""Open apps of one process at which garbage is collected before another one is made."""


@dataclass(slots=True)
class Runtime:
    """Hold everything of one app, in ``app.extensions["hubspot_hitl"]``."""

    settings: Settings
    services: Services
    dispatcher: Dispatcher
    intake: Intake
    health: Health
    deployment: Deployment
    seldom: Seldom
    """Logs what may happen again and again."""
    links: Links
    """Leads to the files of conversations."""
    may_install: MayInstall | None = None
    """Decides who may connect a portal; None: those who debug the app, and those who have a link."""
    on_close: list[Callable[[], None]] = field(default_factory=list)
    """What else is closed with the app; bridges add theirs."""

    @property
    def ledger(self) -> Ledger:
        """Return the app's database."""
        return self.services.ledger

    def close(self, timeout: float = GRACE_SECONDS) -> None:
        """Close what the app has open; see :meth:`.HubSpotHITL.close`.

        :param timeout: seconds that running lanes get to finish.
        """
        self.dispatcher.stop(timeout)
        _open.discard(self.ledger)
        for close in (*self.on_close, self.services.close, self.ledger.close):
            close()
        self.health = Health(self.ledger)  # what it found out before holds no more

    def add_task(self, topic: str, task: Task) -> None:
        """Have events of another topic run by a task; for bridges, while the app is being put together.

        :raises RuntimeError: when the topic has a task already.
        """
        if topic in self.dispatcher.tasks:
            raise RuntimeError(f"there is a task for {topic!r} already; is the bridge on this app twice?")
        self.dispatcher.tasks[topic] = task


def open_runtime(app: Flask, settings: Settings, clock: Clock) -> Runtime:
    """Open the app's database and put everything together; nothing runs yet.

    :raises LedgerUnavailable: when the database can't be opened.
    :raises ConfigError: when waiting would not change that.
    """
    threads = settings.dispatcher_threads or min(SERVING_THREADS, settings.most_threads)
    if len(_open) >= MANY_APPS:
        gc.collect()  # a suite that makes many apps and closes none would come to the limit of open files before that
    is_testing = _is_testing(app)
    deployment = Deployment(Path(app.instance_path) / "hubspot-hitl" / f"{file_name(app.name)}.deployment")
    is_stand_in = settings.is_stand_in  # nothing is lost with its databases, nor with a test's

    def any_will_do() -> bool:
        return is_stand_in or is_testing()

    def why_not() -> str | None:
        if not ledger.find() and (any_will_do() or deployment.is_first()):
            ledger.create()
        return None if any_will_do() else deployment.why_not(ledger.find())

    # Where a store was before, none is made: processes that serve it still would take the new one for theirs.
    anew = any_will_do() or deployment.is_first()
    ledger = _open_ledger(app, settings, clock, pool_size=threads + 16, is_testing=is_testing, anew=anew)
    ledger.why_not = why_not
    exposed = ledger.exposed()
    if exposed is not None:
        logger.warning("%s; the files in it are not. Close it with chmod 700", exposed[0].upper() + exposed[1:])
    services = Services(settings=settings, ledger=ledger, clock=clock, secret_keys=lambda: _secret_keys(app))
    seldom = Seldom()
    dispatcher = build_dispatcher(app, services, threads=threads, grows=threads_grow(settings), seldom=seldom)
    _open.add(ledger)
    intake, links = Intake(settings, ledger), Links(services)
    return Runtime(settings, services, dispatcher, intake, Health(ledger), deployment, seldom, links)


def _open_ledger(
    app: Flask, settings: Settings, clock: Clock, *, pool_size: int, is_testing: Callable[[], bool], anew: bool
) -> Ledger:
    url = locate(settings.database_url, instance_path=app.instance_path, app_name=app.name)
    try:
        ledger = Ledger(
            url,
            clock,
            pool_size=pool_size,
            schema=SCHEMA,
            is_testing=is_testing,
            kind_of=kind_of,
            on_open=lambda tx: _remember(tx, clock.now_ms()),
        )
        try:
            ledger.create(anew=anew)
        except BaseException:
            ledger.close()
            raise
    except Misconfigured as error:
        raise ConfigError([f"{PREFIX}DATABASE_URL: {error}"]) from error
    return ledger


def _remember(tx: Transaction, now: int) -> None:
    """Let a store that is opened for the first time know what it was made for."""
    housekeeping.remember(tx, now=now)
    api_version.remember(tx)
    app_kind.remember(tx)


_open: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _is_testing(app: Flask) -> Callable[[], bool]:
    """Return what tells whether the app is being tested, which may be set after ``init_app``.

    It does not keep the app alive.
    """
    app_of = weakref.ref(app)

    def is_testing() -> bool:
        found = app_of()
        return found is not None and found.testing

    return is_testing


def _secret_keys(app: Flask) -> list[str | bytes]:
    """Return SECRET_KEY and its fallbacks, the current one first."""
    found = [app.config.get("SECRET_KEY"), *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
    return [key for key in found if key]


def get_runtime(app: Flask | None = None) -> Runtime:
    """Return the extension's part of an app.

    :param app: None: the current one.
    :raises RuntimeError: when there is no app context, or the extension is not on the app.
    """
    target = app or current_app
    try:
        state: Runtime = target.extensions[KEY]
    except KeyError:
        raise RuntimeError(
            "HubSpotHITL is not on this app. Did you forget to call 'init_app(app)' or 'app.register_extension(hitl)'?"
        ) from None
    return state


def build_dispatcher(
    app: Flask, services: Services, *, threads: int, grows: bool = False, seldom: Seldom | None = None
) -> Dispatcher:
    """Make a dispatcher with everything it can run.

    :param threads: how many threads run lanes.
    :param grows: whether there are more while these wait.
    :param seldom: the app's, for log lines that may recur; None: a new one.
    """
    settings, ledger = services.settings, services.ledger
    emitter = Emitter(app, services)
    inbound = InboundTask(services, emitter)
    sweep, looking_back = SweepTask(services), LookingBack(services, inbound.history)
    told = (Kind.MESSAGE, Kind.ASSIGNED, Kind.STATUS, Kind.RESTORED, Kind.DELETED)
    tasks: dict[str, Task] = {kind.value: inbound for kind in told}
    tasks |= {
        Topic.SIGNAL: inbound,
        Topic.ACCOUNT_REMOVED: inbound,
        Topic.ACCOUNTS: accounts.AccountsTask(services),
        Kind.PRIVACY_DELETED.value: EraseTask(services, inbound.history),
        Kind.NEW_MESSAGE.value: GapTask(services, inbound),
        Topic.UNPARK: UnparkTask(services),
        Topic.ASSIGNMENT_TIMEOUT: AssignmentTimeoutTask(emitter, services, inbound.history),
        Topic.SWEEP: sweep,
        Topic.LOOK_BACK: LookBackTask(services, looking_back),
        Topic.RECONCILE: ReconcileTask(services, looking_back),
        Topic.RESUME: ResumeTask(services),
        Topic.OPEN: OpenTask(services),
        Topic.NOTE: NoteTask(services),
        Topic.ASSIGN: AssignTask(services),
        Topic.PUBLISH: MessageTask(services),
        Topic.CLOSE: CloseTask(services),
        Topic.RECEIPT: ReceiptTask(services),
        Topic.PRUNE: housekeeping.PruneTask(settings, ledger),
        Topic.JOURNAL: JournalTask(services),
        Topic.LIFECYCLE: LifecycleTask(services),
        Topic.WIPE: WipeTask(ledger),
    }

    def on_start() -> None:
        sweep.put_start()
        with ledger.write() as tx:
            if settings.journal:
                journal.schedule(tx, now=ledger.now_ms())
            housekeeping.schedule(tx, now=ledger.now_ms())
            ending = list(api_version.warnings(tx, settings))
        for one in ending:
            logger.warning("%s", one)

    options = EngineOptions(
        mode=settings.dispatcher,
        threads=threads,
        lease_ttl=settings.lease_ttl,
        handler_timeout=settings.handler_timeout,
        max_threads=settings.most_threads,
        grows=grows,
        max_attempts=settings.max_attempts,
        guard=Adoption(settings, ledger),
        on_start=on_start,
        is_testing=_is_testing(app),
    )
    return Dispatcher(ledger, tasks, options, seldom=seldom)


def threads_grow(settings: Settings) -> bool:
    """Return True unless somebody has chosen how many threads a serving process has, and no number as the most."""
    return settings.dispatcher_max_threads is not None or settings.dispatcher_threads is None


def full_processes(status: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return the processes that dispatch nothing more, because hanging receivers have all their threads.

    :param status: the ledger's figures.
    """
    hung: Mapping[str, int] = status["hung_by_process"]
    return sorted(owner for owner, count in hung.items() if count >= settings.most_threads)
