"""Check that some process dispatches, and that it gets on."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask

from ...handoffs.overview import alive, full_processes
from ...handoffs.waits import place_words, refused_bridges, wait_words, waits
from ...handoffs.words import count, sentence, span
from ...runtime import Runtime
from .findings import Code, Finding

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
        refused = refused_bridges(tx, now)
    if mode == "inline":
        if not app.testing:
            yield Code.INLINE.found("HUBSPOT_HITL_DISPATCHER is inline.")
    elif not alive(signs, now):
        yield Code.NOBODY_DISPATCHES.found(_last_seen(mode, signs, now), fix=_START[mode])
    if status["hung_lanes"]:
        places = ", ".join(map(place_words, status["hung_lanes"][:5]))
        yield Code.HUNG.found(f"Handlers run for more than {runtime.settings.handler_timeout:g} s in: {places}.")
    full = full_processes(status, runtime.settings)
    if full:
        most = runtime.settings.most_threads
        yield Code.FULL.found(f"Handlers hang in all {most} threads of: {', '.join(full[:5])}.")
    oldest = status["oldest_pending_seconds"] or 0
    if oldest > LATE_SECONDS:
        reasons = "".join(f" {sentence(wait_words(one))}" for one in waiting[:REASONS])
        yield Code.LATE.found(f"{count(status['pending'], 'event')} waiting, the oldest for {span(oldest)}.{reasons}")
    for one in refused:
        yield Code.BRIDGE_REFUSED.found(
            f"It is {one['bridge']}'s, for {span(one['seconds'])}: check {one['settings']}."
        )
    given_up = status["dead"] + status["quarantined"]
    if given_up:
        yield Code.GIVEN_UP.found(f"{count(given_up, 'event')} given up or not readable.")


_START = {
    "thread": "Start the app's server; it dispatches from a second after its start.",
    "external": "Run 'flask hubspot-hitl worker' as a service beside the server, or 'flask hubspot-hitl tick' every "
    "minute from cron.",
}


def _last_seen(mode: str, signs: dict[str, int], now: int) -> str:
    who = "server" if mode == "thread" else "worker"
    if not signs:
        return f"No {who} has been seen on this database."
    return f"The last sign of a {who} is {span((now - max(signs.values())) / 1000)} old."
