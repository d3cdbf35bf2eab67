"""Check that some process dispatches, and that it gets on."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask

from ...dispatch.dispatcher import TICK
from ...dispatch.owners import is_dead
from ...dispatch.threads import SIGN_SECONDS
from ...runtime import Runtime, full_processes
from ..waits import wait_words, waits
from .findings import Code, Finding, sentence

ALIVE_SECONDS = 3 * SIGN_SECONDS
"""Seconds after its last sign of life for which a process counts as alive."""
TICKED_SECONDS = 600.0
"""Seconds between two runs of ``tick``: cron may be that seldom."""
LATE_SECONDS = 120.0
"""Seconds after which a lane that is due counts as late."""
REASONS = 5
"""Reasons that are told for what is late, those of the most urgent first."""


def check(app: Flask, runtime: Runtime) -> Iterator[Finding]:
    """Check the signs of life in the database, which every process that dispatches leaves there."""
    mode, ledger = runtime.settings.dispatcher, runtime.ledger
    now = ledger.now_ms()
    with ledger.read() as tx:
        signs = tx.signs.all()
        status = tx.status(now=now)
        waiting = waits(tx, now)
    if mode == "inline":
        if not app.testing:
            yield Code.INLINE.found("HUBSPOT_HITL_DISPATCHER is inline.")
    elif not any(_is_alive(owner, (now - at) / 1000) for owner, at in signs.items()):
        yield Code.NOBODY_DISPATCHES.found(_last_seen(mode, signs, now), fix=_START[mode])
    if status["hung_lanes"]:
        lanes = ", ".join(status["hung_lanes"][:5])
        yield Code.HUNG.found(f"Handlers run for more than {runtime.settings.handler_timeout:g} s in: {lanes}.")
    full = full_processes(status, runtime.settings)
    if full:
        most = runtime.settings.most_threads
        yield Code.FULL.found(f"Handlers hang in all {most} threads of: {', '.join(full[:5])}.")
    oldest = status["oldest_pending_seconds"] or 0
    if oldest > LATE_SECONDS:
        reasons = "".join(f" {sentence(wait_words(one))}" for one in waiting[:REASONS])
        yield Code.LATE.found(f"{status['pending']} event(s) are waiting, the oldest for {_span(oldest)}.{reasons}")
    given_up = status["dead"] + status["quarantined"]
    if given_up:
        yield Code.GIVEN_UP.found(f"{given_up} event(s) were given up or could not be read.")


_START = {
    "thread": "Start the app's server; it dispatches from a second after its start.",
    "external": "Run 'flask hubspot-hitl worker' as a service beside the server, or 'flask hubspot-hitl tick' every "
    "minute from cron.",
}


def _is_alive(owner: str, seconds: float) -> bool:
    if owner == TICK:
        return seconds < TICKED_SECONDS
    return seconds < ALIVE_SECONDS and not is_dead(owner)


def _last_seen(mode: str, signs: dict[str, int], now: int) -> str:
    who = "server" if mode == "thread" else "worker"
    if not signs:
        return f"No {who} has been seen on this database."
    return f"The last sign of a {who} is {_span((now - max(signs.values())) / 1000)} old."


def _span(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
