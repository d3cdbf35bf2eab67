"""What one app has of us: everything is in ``app.extensions["hubspot_hitl"]``, and put together here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, current_app

from . import accounts, housekeeping
from .clock import Clock
from .config import PREFIX, Settings
from .dispatcher import GRACE_SECONDS, Dispatcher
from .emission import Emitter
from .hubspot.events import Kind
from .inbound import InboundTask
from .intake import Intake
from .ledger import Ledger, Topic
from .outbound import AssignTask, CloseTask, MessageTask, NoteTask, OpenTask, ReceiptTask
from .services import Services
from .tasks import Task
from .watches import AssignmentTimeoutTask, GapTask, ReconcileTask, ResumeTask, SweepTask, UnparkTask

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
    ledger = Ledger(settings.database(app.instance_path, app.name), clock, pool_size=threads + 16)
    ledger.create()
    services = Services(settings=settings, ledger=ledger, clock=clock, secret_keys=lambda: _secret_keys(app))
    dispatcher = build_dispatcher(app, services, threads=threads)
    return Runtime(settings, services, dispatcher, Intake(settings, ledger))


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
        Topic.SIGNAL: inbound,
        Topic.ACCOUNT_REMOVED: inbound,
        Topic.ACCOUNTS: accounts.AccountsTask(services),
        Kind.NEW_MESSAGE.value: GapTask(services, inbound),
        Topic.UNPARK: UnparkTask(services),
        Topic.ASSIGNMENT_TIMEOUT: AssignmentTimeoutTask(emitter, services, inbound.history),
        Topic.SWEEP: sweep,
        Topic.RECONCILE: ReconcileTask(services, inbound.history),
        Topic.RESUME: ResumeTask(services),
        Topic.OPEN: OpenTask(services),
        Topic.NOTE: NoteTask(services),
        Topic.ASSIGN: AssignTask(services),
        Topic.PUBLISH: MessageTask(services),
        Topic.CLOSE: CloseTask(services),
        Topic.RECEIPT: ReceiptTask(services),
        Topic.PRUNE: housekeeping.PruneTask(settings, ledger),
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
