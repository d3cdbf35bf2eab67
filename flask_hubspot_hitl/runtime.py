"""What one app has of us: everything is in ``app.extensions["hubspot_hitl"]``, and put together here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, current_app

from . import accounts, housekeeping, portals
from .clock import Clock
from .config import PREFIX, Settings, is_loopback
from .deployment import Deployment
from .dispatcher import GRACE_SECONDS, Dispatcher
from .emission import Emitter
from .handoffs import ACCOUNT_REMOVED, ASSIGN, CLOSE, NOTE, OPEN, PUBLISH, RECEIPT, SIGNAL, TIMER, UNPARK
from .hubspot.events import Kind
from .inbound import InboundTask
from .intake import Intake
from .ledger import SCHEMA, Ledger, file_name, locate
from .outbound import AssignTask, CloseTask, MessageTask, NoteTask, OpenTask, ReceiptTask
from .services import Services
from .tasks import Task
from .watches import RECONCILE, SWEEP, AssignmentTimeoutTask, GapTask, ReconcileTask, ResumeTask, SweepTask, UnparkTask

logger = logging.getLogger(__name__)

KEY = "hubspot_hitl"
MayInstall = Callable[[str | None], bool]
SERVING_THREADS = 4


@dataclass(slots=True)
class Runtime:
    """Everything of one app, in ``app.extensions["hubspot_hitl"]``."""

    settings: Settings
    services: Services
    dispatcher: Dispatcher
    intake: Intake
    deployment: Deployment
    may_install: MayInstall | None = None
    """Decides who may connect a portal; None: whoever debugs the app, and whoever has a link."""

    @property
    def ledger(self) -> Ledger:
        """The app's database."""
        return self.services.ledger

    def close(self, timeout: float = GRACE_SECONDS) -> None:
        """Finish what is being worked on for ``timeout`` seconds, then give all connections back.

        For tests, and for processes that make many apps. What is not done yet stays in the database.
        """
        self.dispatcher.stop(timeout)
        self.services.close()
        self.ledger.close()

    def add_task(self, topic: str, task: Task) -> None:
        """Have events of another topic run by ``task``; for bridges, while the app is being put together."""
        if topic in self.dispatcher.tasks:
            raise RuntimeError(f"there is a task for {topic!r} already; is the bridge on this app twice?")
        self.dispatcher.tasks[topic] = task


def open_runtime(app: Flask, settings: Settings, clock: Clock) -> Runtime:
    """Open the app's database and put everything together; nothing runs yet.

    :raises LedgerUnavailable: when the database can't be opened.
    """
    threads = settings.dispatcher_threads or SERVING_THREADS
    deployment = Deployment(Path(app.instance_path) / "hubspot-hitl" / f"{file_name(app.name)}.deployment")
    url = locate(settings.database_url, instance_path=app.instance_path, app_name=app.name)
    ledger = Ledger(url, clock, pool_size=threads + 16, schema=SCHEMA)
    ledger.create()
    exposed = ledger.exposed()
    if exposed is not None:
        logger.warning("%s; the files in it are not: chmod 700 closes it", exposed[0].upper() + exposed[1:])
    ledger.why_not = lambda: None if is_trial(app, settings) else deployment.why_not(ledger.deployment_id)
    services = Services(settings=settings, ledger=ledger, clock=clock, secret_keys=lambda: _secret_keys(app))
    dispatcher = build_dispatcher(app, services, threads=threads)
    return Runtime(settings, services, dispatcher, Intake(settings, ledger), deployment)


def is_trial(app: Flask, settings: Settings) -> bool:
    """True where nothing is lost with a database: in tests (which may say so late), and with the stand-in."""
    return bool(app.testing) or is_loopback(settings.api_base_url)


def _secret_keys(app: Flask) -> list[str | bytes]:
    """What Flask signs sessions with, the one in use first."""
    found = [app.config.get("SECRET_KEY"), *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
    return [key for key in found if key]


def get_runtime(app: Flask | None = None) -> Runtime:
    """The extension's part of an app, by default the current one.

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


def build_dispatcher(app: Flask, services: Services, *, threads: int) -> Dispatcher:
    """A dispatcher with everything it can run."""
    settings, ledger = services.settings, services.ledger
    emitter = Emitter(app, settings, ledger)
    inbound = InboundTask(services, emitter)
    sweep = SweepTask(services)
    told = (Kind.MESSAGE, Kind.ASSIGNED, Kind.STATUS, Kind.RESTORED, Kind.DELETED, Kind.PRIVACY_DELETED)
    tasks: dict[str, Task] = {kind.value: inbound for kind in told}
    tasks |= {
        SIGNAL: inbound,
        ACCOUNT_REMOVED: inbound,
        accounts.LOOK: accounts.AccountsTask(services),
        Kind.NEW_MESSAGE.value: GapTask(services, inbound),
        UNPARK: UnparkTask(services),
        TIMER: AssignmentTimeoutTask(emitter, services, inbound.history),
        SWEEP: sweep,
        RECONCILE: ReconcileTask(services, inbound.history),
        portals.RESUME: ResumeTask(services),
        OPEN: OpenTask(services),
        NOTE: NoteTask(services),
        ASSIGN: AssignTask(services),
        PUBLISH: MessageTask(services),
        CLOSE: CloseTask(services),
        RECEIPT: ReceiptTask(services),
        housekeeping.PRUNE: housekeeping.PruneTask(settings, ledger),
    }

    def on_start() -> None:
        sweep.put_start()
        with ledger.write() as tx:
            housekeeping.schedule(tx, now=ledger.now_ms())

    guard = _Adoption(settings, ledger)
    return Dispatcher(
        ledger,
        tasks,
        mode=settings.dispatcher,
        threads=threads,
        lease_ttl=settings.lease_ttl,
        handler_timeout=settings.handler_timeout,
        max_attempts=settings.max_attempts,
        guard=guard,
        on_start=on_start,
    )


def not_adopted(served: str | None, urls: tuple[str, ...]) -> str | None:
    """Why a database is not ours to dispatch: it ``served`` (one URL a line) none of our public URLs. None if it is."""
    if served is None or set(served.split("\n")) & set(urls):
        return None
    return (
        f"this database served {served.split()[0]} before, and {PREFIX}PUBLIC_URL is {urls[0]}; if it is "
        "not a copy of another installation's, run 'flask hubspot-hitl adopt'"
    )


class _Adoption:
    """A copied database must not replay its queue: it is dispatched only where its public URL is served."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._passed = False

    def __call__(self) -> str | None:
        if self._passed:
            return None
        urls = self._settings.public_url
        with self._ledger.read() as tx:
            served = tx.get_meta("public_url")
        reason = not_adopted(served, urls)
        if reason is not None:
            return reason
        if served != "\n".join(urls):
            with self._ledger.write() as tx:
                tx.set_meta("public_url", "\n".join(urls))
        self._passed = True
        return None
