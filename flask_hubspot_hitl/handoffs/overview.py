"""Read on one screen whether it goes on, what waits, and what is stuck: for ``status`` and the admin's first page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flask import Flask

from ..config import Settings
from ..dispatch.dispatcher import TICK, Dispatcher
from ..dispatch.owners import is_dead
from ..dispatch.threads import SIGN_SECONDS
from ..ledger import Transaction
from ..ledger.health import Health
from ..portals import arrivals
from ..portals.clients import Services
from .hearing import CORE, unheard
from .waits import Facts, budget_words, budgets, place_words, refused_bridges, refused_words, waits
from .words import count, date, sentence, span

ALIVE_SECONDS = 3 * SIGN_SECONDS
"""Seconds after its last sign of life for which a process counts as alive."""
TICKED_SECONDS = 600.0
"""Seconds between two runs of ``tick``: cron may be that seldom."""
NO_RECEIVER = "no receiver is connected to a core signal; see 'flask hubspot-hitl doctor'"


class Portal(NamedTuple):
    """A HubSpot account, and how it goes with it. Times are epoch ms."""

    portal_id: str
    state: str
    scopes: tuple[str, ...] | None
    added_at: int | None
    revoked_at: int | None
    inboxes: list[str]
    called_at: int | None
    closed_until: int
    """Until when HubSpot is not called: it has answered that it wants no calls, or not answered; 0: it is."""
    error: str | None
    """The newest one of what waits or was given up."""


class Line(NamedTuple):
    """One line of the overview."""

    label: str
    words: str
    is_bad: bool = False
    see: str = ""
    """The command that tells more, without ``flask hubspot-hitl``."""

    def text(self) -> str:
        """Return the words with where to see more."""
        return f"{self.words}; see 'flask hubspot-hitl {self.see}'" if self.see else self.words


def read(app: Flask, services: Services, dispatcher: Dispatcher, health: Health) -> Facts:
    """Return the figures of ``status``. Ages are in seconds, times in epoch ms.

    :raises LedgerUnavailable: when the database can't be used.
    """
    ledger, settings = services.ledger, services.settings
    now = ledger.now_ms()
    with ledger.read() as tx:
        facts = tx.status(now=now)
        facts["waits"] = waits(tx, now)
        facts["budgets"] = budgets(tx, settings.rate_limit, now)
        facts["bridges_refused"] = refused_bridges(tx, now)
        signs = tx.signs.all()
        facts["last_webhook_at"] = max(arrivals.last(tx).values(), default=None)
        facts["last_error"] = tx.last_error()
    trouble = health.trouble()
    facts["not_writable"] = None if trouble is None else str(trouble)
    facts["full_processes"] = full_processes(facts, settings)
    facts["processes"] = [one for one in alive(signs, now) if one != TICK]
    facts["nothing_is_dispatched"] = dispatcher.blocked() or (NO_RECEIVER if len(unheard(app)) == len(CORE) else None)
    return facts


def lines(facts: Facts, mode: str, now: int) -> Iterator[Line]:
    """Return what :func:`read` has found in words; ``now`` is in epoch ms.

    :param mode: the setting ``DISPATCHER``.
    """
    given_up = facts["dead"] + facts["quarantined"]
    at, error = facts["last_webhook_at"], facts["last_error"]
    if facts["not_writable"]:
        yield Line("Database", sentence(facts["not_writable"]), is_bad=True)
    yield _dispatching(facts, mode)
    yield Line("Waiting", _waiting(facts))
    yield from (Line("Budget", budget_words(one)) for one in facts["budgets"])
    yield from (Line("Bridge", refused_words(one)) for one in facts["bridges_refused"])
    yield Line("At work", count(facts["leased"], "queue") if facts["leased"] else "nothing")
    if facts["parked"]:
        yield Line("Held back", f"{count(facts['parked'], 'event')} of threads not known yet")
    yield _stuck(facts)
    yield Line("Given up", count(given_up, "event"), see="dead list") if given_up else Line("Given up", "nothing")
    yield Line("Handoffs", ", ".join(f"{many} {name}" for name, many in sorted(facts["handoffs"].items())) or "none")
    yield Line("Last webhook", f"{date(at)} UTC, {span((now - at) / 1000)} ago" if at else "none yet")
    yield Line("Last error", f"{date(error['at'])} UTC, {error['topic']}: {error['error']}" if error else "none")


def _dispatching(facts: Facts, mode: str) -> Line:
    label = "Dispatching"
    if facts["nothing_is_dispatched"]:
        return Line(label, f"no: {facts['nothing_is_dispatched']}", is_bad=True)
    if mode == "inline" or facts["processes"]:
        where = "the caller" if mode == "inline" else count(len(facts["processes"]), "process", "es")
        return Line(label, f"yes, in {where}")
    return Line(label, "no: no process that dispatches has been seen lately", is_bad=True, see="doctor")


def _waiting(facts: Facts) -> str:
    oldest = facts["oldest_pending_seconds"]
    if not facts["pending"]:
        return "nothing"
    return count(facts["pending"], "event") + ("" if oldest is None else f", the oldest for {span(oldest)}")


def _stuck(facts: Facts) -> Line:
    full = [f"all threads of {one} hang" for one in facts["full_processes"]]
    hung = [f"a handler hangs in {place_words(one)}" for one in facts["hung_lanes"]]
    return Line("Stuck", "; ".join([*full, *hung]) or "nothing", is_bad=bool(full or hung))


def portals(tx: Transaction, settings: Settings) -> list[Portal]:
    """Return the accounts that have installed the app, and the one of the settings."""
    found = {one.portal_id: one for one in tx.installations.all()}
    ours = {} if settings.portal_id is None else {settings.portal_id: found.get(settings.portal_id)}
    buckets = {one.portal_id: one for one in tx.buckets.all()}
    errors = tx.timeline.last_errors()
    inboxes: dict[str, list[str]] = {}
    for account in tx.channels.accounts():
        if account.authorized:
            inboxes.setdefault(account.portal_id, []).append(account.inbox_id)
    listed = []
    for portal_id, one in (found | ours).items():
        bucket = buckets.get(portal_id)
        listed.append(
            Portal(
                portal_id,
                state="by settings" if one is None else one.state.value,
                scopes=None if one is None else one.scopes,
                added_at=None if one is None else one.added_at,
                revoked_at=None if one is None else one.revoked_at,
                inboxes=inboxes.get(portal_id, []),
                called_at=max((second * 1000 for second in bucket.slots), default=None) if bucket else None,
                closed_until=max(bucket.blocked_until, bucket.open_until) if bucket else 0,
                error=errors.get(portal_id),
            )
        )
    return listed


def alive(signs: Mapping[str, int], now: int) -> list[str]:
    """Return the processes that dispatch, by their signs of life; ``now`` is in epoch ms."""
    return [owner for owner, at in signs.items() if _is_alive(owner, (now - at) / 1000)]


def _is_alive(owner: str, seconds: float) -> bool:
    if owner == TICK:
        return seconds < TICKED_SECONDS
    return seconds < ALIVE_SECONDS and not is_dead(owner)


def full_processes(status: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return the processes that dispatch nothing more, because hanging receivers have all their threads.

    :param status: the ledger's figures.
    """
    hung: Mapping[str, int] = status["hung_by_process"]
    return sorted(owner for owner, count in hung.items() if count >= settings.most_threads)
