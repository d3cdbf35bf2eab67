"""Hold everything of one app, and put it together; it is in ``app.extensions["hubspot_hitl"]``."""

from __future__ import annotations

import gc
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, current_app

from .clock import Clock
from .config import PREFIX, Off, Settings
from .dispatch.dispatcher import GRACE_SECONDS, Dispatcher
from .dispatch.options import EngineOptions
from .dispatch.seldom import Seldom
from .errors import ConfigError, LedgerUnavailable
from .ledger import SCHEMA, Ledger, Misconfigured, State, Transaction, file_name, locate
from .ledger.health import Health
from .metrics import Meter, Metrics, Reading
from .portals.deployment import Adoption, Deployment

if TYPE_CHECKING:
    from .dispatch.tasks import Task
    from .handoffs.facts import Redact
    from .handoffs.files import Links
    from .handoffs.intake import Intake
    from .handoffs.parts import Parts
    from .portals.clients import Services

logger = logging.getLogger(__name__)


KEY = "hubspot_hitl"
MayInstall = Callable[[str | None], bool | Awaitable[bool]]
MayAdminister = Callable[[], bool | str | Awaitable[bool | str | None] | None]
SERVING_THREADS = 4
"""Threads that run lanes in a process that serves, unless DISPATCHER_THREADS is set."""
MANY_APPS = 8
"""Open apps of one process at which garbage is collected before another one is made."""


_loading = threading.RLock()
"""Held while an app's parts are loaded, and while the process forks: a child would wait for ever for a module that a
thread of its parent's was loading."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)


class Runtime:
    """Hold everything of one app, in ``app.extensions["hubspot_hitl"]``.

    What only a process that takes webhooks, calls HubSpot or dispatches needs is loaded when it is first asked for.
    """

    def __init__(self, app: Flask, settings: Settings, ledger: Ledger, clock: Clock, deployment: Deployment) -> None:
        self.settings = settings
        self.ledger = ledger
        """The app's database."""
        self.clock = clock
        self.deployment = deployment
        self.health = Health(ledger)
        self.meter = Meter()
        """Takes what is measured."""
        self.seldom = Seldom()
        """Logs what may happen again and again."""
        self.redact: Redact | None = None
        """The host's own: what agents may read of a user's history and facts."""
        self.may_install: MayInstall | None = None
        """Decides who may connect a portal; None: those who debug the app, and those who have a link."""
        self.may_administer: MayAdminister | None = None
        """Decides who sees the admin's pages, and says who it is; None: there are none."""
        self.on_close: list[Callable[[], None]] = []
        """What else is closed with the app; bridges add theirs."""
        self._app = app
        self._parts: Parts | None = None
        self._tasks: dict[str, Task] | None = None
        self._more_tasks: dict[str, Task] = {}
        threads = _threads(settings)
        self.dispatcher = self.new_dispatcher(threads=threads, grows=threads_grow(settings))

    @property
    def parts(self) -> Parts:
        """Return what takes webhooks and calls HubSpot."""
        if self._parts is None:
            with _loading:
                from .handoffs.parts import Parts

                if self._parts is None:
                    self._parts = Parts(
                        self.settings, self.ledger, self.clock, self.meter, lambda: _secret_keys(self._app)
                    )
        return self._parts

    @property
    def services(self) -> Services:
        """Return the HubSpot clients, and what they need."""
        return self.parts.services

    @property
    def intake(self) -> Intake:
        """Return what takes in webhooks."""
        return self.parts.intake

    @property
    def links(self) -> Links:
        """Return what leads to the files of conversations."""
        return self.parts.links

    def tasks(self) -> dict[str, Task]:
        """Return what is run, by the topic of the event."""
        if self._tasks is None:
            with _loading:
                from .handoffs.topics import tasks_of

                self._tasks = {**tasks_of(self._app, self.services), **self._more_tasks}
        return self._tasks

    def measure(self, metrics: Metrics) -> None:
        """Hand what is measured to ``metrics``, for as long as there is the app."""
        self.meter.metrics = metrics
        this = weakref.ref(self)

        def read() -> list[Reading]:
            runtime = this()
            return [] if runtime is None else runtime.gauges()

        metrics.watch(read)

    def close(self, timeout: float = GRACE_SECONDS) -> None:
        """Close what the app has open; see :meth:`.HubSpotHITL.close`.

        :param timeout: seconds that running lanes get to finish.
        """
        self.dispatcher.stop(timeout)
        _open.discard(self.ledger)
        for close in self.on_close:
            close()
        if self._parts is not None:
            self._parts.services.close()
        self.ledger.close()
        self.health = Health(self.ledger)  # what it found out before holds no more

    def gauges(self) -> list[Reading]:
        """Return the gauges' values; none while the database can't be used."""
        from .handoffs import gauges

        try:
            return list(gauges.read(self.services, self.dispatcher))
        except LedgerUnavailable:
            return []

    def why_not_ready(self) -> str | None:
        """Return why this process does not do its work: ``closing``, ``database`` or ``handlers``; None: it does."""
        if self.dispatcher.is_over:
            return "closing"
        if self.health.trouble() is not None:
            return "database"
        return "handlers" if self.dispatcher.is_full() else None

    def add_task(self, topic: str, task: Task) -> None:
        """Have events of another topic run by a task; for bridges, while the app is being put together.

        :raises RuntimeError: when the topic has a task already.
        """
        if topic in self._more_tasks:
            raise RuntimeError(f"there is a task for {topic!r} already; is the bridge on this app twice?")
        self._more_tasks[topic] = task
        if self._tasks is not None:
            self._tasks[topic] = task

    def new_dispatcher(self, *, threads: int, grows: bool = False) -> Dispatcher:
        """Make a dispatcher with everything it can run.

        :param threads: how many threads run lanes.
        :param grows: whether there are more while these wait.
        """
        settings = self.settings

        def on_start() -> None:
            from .handoffs import topics

            topics.put_first(self._app, self.services)

        options = EngineOptions(
            mode=settings.dispatcher,
            threads=threads,
            lease_ttl=settings.lease_ttl,
            handler_timeout=settings.handler_timeout,
            max_threads=settings.most_threads,
            grows=grows,
            max_attempts=settings.max_attempts,
            meter=self.meter,
            guard=Adoption(settings, self.ledger),
            on_start=on_start,
            is_testing=_is_testing(self._app),
        )
        return Dispatcher(self.ledger, self.tasks, options, seldom=self.seldom)


def open_runtime(app: Flask, settings: Settings, clock: Clock) -> Runtime:
    """Open the app's database and put everything together; nothing runs yet.

    A database that is away just now is opened when it is first needed and there.

    :raises ConfigError: the database can't be used, and waiting would not change that.
    """
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
    threads = _threads(settings)
    ledger = _open_ledger(app, settings, clock, pool_size=threads + 16, is_testing=is_testing, anew=anew)
    ledger.why_not = why_not
    exposed = ledger.exposed()
    if exposed is not None:
        logger.warning("%s; the files in it are not. Close it with chmod 700", exposed[0].upper() + exposed[1:])
    _open.add(ledger)
    return Runtime(app, settings, ledger, clock, deployment)


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
            kind_of=_kind_of,
            on_open=lambda tx: _remember(tx, clock.now_ms()),
        )
        try:
            ledger.create(anew=anew)
        except Misconfigured:
            ledger.close()
            raise
        except LedgerUnavailable as error:
            logger.warning(
                "The app starts all the same, and webhooks are answered with 503 until it is back: %s", error
            )
        except BaseException:
            ledger.close()
            raise
    except Misconfigured as error:
        raise ConfigError([f"{PREFIX}DATABASE_URL: {error}"]) from error
    return ledger


def _kind_of(topic: str) -> type[State]:
    from .handoffs.states import kind_of

    return kind_of(topic)


def _remember(tx: Transaction, now: int) -> None:
    """Let a store that is opened for the first time know what it was made for."""
    from .dispatch import housekeeping
    from .portals import api_version, app_kind

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
    :raises NotConfigured: when the app runs without live agents.
    :raises RuntimeError: when there is no app context, or the extension is not on the app.
    """
    target = app or current_app
    try:
        state: Runtime | Off = target.extensions[KEY]
    except KeyError:
        raise RuntimeError(
            "HubSpotHITL is not on this app. Did you forget to call 'init_app(app)' or 'app.register_extension(hitl)'?"
        ) from None
    if isinstance(state, Off):
        raise state.error()
    return state


def off_of(app: Flask | None = None) -> Off | None:
    """Return why an app runs without live agents; None when it has them, or not the extension.

    :param app: None: the current one.
    :raises RuntimeError: when there is no app context.
    """
    found = (app or current_app).extensions.get(KEY)
    return found if isinstance(found, Off) else None


def _threads(settings: Settings) -> int:
    return settings.dispatcher_threads or min(SERVING_THREADS, settings.most_threads)


def threads_grow(settings: Settings) -> bool:
    """Return True unless somebody has chosen how many threads a serving process has, and no number as the most."""
    return settings.dispatcher_max_threads is not None or settings.dispatcher_threads is None
