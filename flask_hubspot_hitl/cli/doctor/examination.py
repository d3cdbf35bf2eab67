"""Has everything looked at, side by side, and puts the findings in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields, replace
from functools import partial

from flask import Flask

from ...config import Settings
from ...errors import ConfigError, LedgerUnavailable, NotConfigured
from ...handoffs.words import sentence
from ...hubspot.scopes import AppKind
from ...portals import app_kind
from ...runtime import Runtime, get_runtime
from . import application, dispatching, hubspot_app, journal, portal, project_app, public_url, store
from .findings import Code, Finding, Level

logger = logging.getLogger(__name__)

AT_ONCE = 16
LOOK_SECONDS = 0.2
"""Seconds between two looks at what is done, for the progress bar."""
SECRET_LENGTH = 6
"""Characters; a shorter value is not hidden, because it may be part of any word."""
SKEW_SECONDS = 60.0
"""Seconds that HubSpot's time may differ: it is in whole seconds, and an answer takes a while."""

Check = tuple[str, Callable[[], Iterable[Finding]]]
"""What it looks at, and how."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Report:
    """Hold what was found, by code; what was ``looked_at``, and in how many ``seconds``."""

    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    seconds: float

    @property
    def is_well(self) -> bool:
        """Return True when nothing keeps handoffs from working; there may be warnings."""
        return not any(one.level is Level.ERROR for one in self.findings)

    @property
    def is_unproven(self) -> bool:
        """Return True when webhooks have never come that only their coming proves."""
        return any(one.code is Code.UNPROVEN for one in self.findings)


def examine(app: Flask, progress: Progress | None = None) -> Report:
    """Look at everything of an app. Nothing is changed, but for what every call does (a token may be renewed).

    ``progress`` is told, now and then, how many checks are done and how many there are.
    """
    began, runtime = time.monotonic(), get_runtime(app)
    database: Check = ("the database", partial(store.check, runtime))
    findings = safely(database)
    trouble = {one.code for one in findings}
    checks: list[Check] = [("the app", partial(application.check, app, runtime))]
    checks += [(url, partial(public_url.check, runtime, url)) for url in runtime.settings.public_url]
    if not trouble & {Code.DATABASE, Code.OTHER_STORE}:
        checks.append(("the dispatcher", partial(dispatching.check, app, runtime)))
    if not trouble & {Code.DATABASE, Code.OTHER_STORE, Code.READ_ONLY}:  # every call to HubSpot is counted in it
        checks += _hubspot_checks(runtime)
    found = _side_by_side(checks, progress or (lambda done, total: None))
    findings += safely(("portals", partial(portal.weighed, runtime, found)))
    findings += _check_clock(runtime)
    return _report(findings, [database, *checks], began, _secrets(runtime.settings))


def explain(error: ConfigError | LedgerUnavailable | NotConfigured) -> Report:
    """Report on an app that does not even start, or runs without live agents."""
    if isinstance(error.__cause__, LedgerUnavailable):
        error = error.__cause__
    if isinstance(error, ConfigError):
        found = [Code.SETTING.found(f"{problem.rstrip('.')}.") for problem in error.problems]
    elif isinstance(error, NotConfigured):
        found = [Code.SETTING.found(sentence(error))]
    else:
        found = [store.unavailable(error)]
    return Report(tuple(found), (), 0.0)


def _hubspot_checks(runtime: Runtime) -> Iterator[Check]:
    yield "the app at HubSpot", partial(hubspot_app.check, runtime)
    if runtime.settings.journal:
        yield "HubSpot's journal", partial(journal.check, runtime)
    with runtime.ledger.read() as tx:
        known = app_kind.known(tx, runtime.settings)
    portal_ids = portal.portal_ids(runtime)
    if known.kind is AppKind.PROJECT:
        yield "the project's files", partial(project_app.check_files, runtime)
    if portal_ids and not known.has_webhooks_api:
        yield "what has arrived", partial(project_app.check_arrivals, runtime)
    if not portal_ids:
        yield "portals", portal.none
    for portal_id in portal_ids:
        yield f"portal {portal_id}", partial(portal.check, runtime, portal_id)


def _side_by_side(checks: list[Check], progress: Progress) -> list[Finding]:
    """Each check waits for somebody else most of the time."""
    found: list[Finding] = []
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="doctor") as pool:
        running = [pool.submit(safely, one) for one in checks]
        left = set(running)
        while left:
            done, left = wait(left, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            found += [finding for one in done for finding in one.result()]
            progress(len(running) - len(left), len(running))
    return found


def safely(check: Check) -> list[Finding]:
    """Return a check's findings; when it raises, those it had, and that it failed."""
    name, look = check
    found: list[Finding] = []
    try:
        found.extend(look())
    except LedgerUnavailable as error:
        found.append(store.unavailable(error))
    except Exception as error:
        logger.debug("A check of doctor's failed", exc_info=True)
        found.append(Code.BUG.found(f"{type(error).__name__}, when {name} was looked at."))
    return found


def _check_clock(runtime: Runtime) -> Iterator[Finding]:
    """By any answer of HubSpot's to the checks before."""
    skew = runtime.services.skew_seconds()
    if skew is not None and abs(skew) > SKEW_SECONDS:
        word = "ahead of" if skew > 0 else "behind"
        yield Code.CLOCK.found(f"Our clock is {abs(skew):.0f} s {word} HubSpot's.")


# What must not be told -------------------------------------------------------------------------------------------


def _secrets(settings: Settings) -> tuple[str, ...]:
    """The values of the settings that are hidden."""
    hidden: list[str] = []
    for spec in fields(settings):
        value = getattr(settings, spec.name)
        if not spec.repr and value:
            hidden += [value] if isinstance(value, str) else value
    return tuple(sorted((one for one in hidden if len(one) >= SECRET_LENGTH), key=len, reverse=True))


def _report(findings: Iterable[Finding], checks: list[Check], began: float, hidden: tuple[str, ...]) -> Report:
    clean = dict.fromkeys(replace(one, what=_without(one.what, hidden)) for one in findings)
    found = sorted(clean, key=lambda one: (one.code.code, one.portal_id or "", one.what))
    return Report(tuple(found), tuple(name for name, _ in checks), time.monotonic() - began)


def _without(text: str, hidden: tuple[str, ...]) -> str:
    """No check tells a secret; what HubSpot or a proxy answered may hold one all the same."""
    for secret in hidden:
        text = text.replace(secret, "…")
    return text
