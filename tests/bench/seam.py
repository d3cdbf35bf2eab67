"""What each of the ledger's measures gives: all but one, and the plain path with one, each beside the whole.

On one database after the other, in turn: a worker with a backlog, as in ``dispatch``, and webhooks of one event, as in
``intake``. A measure that does nothing on a database is left out there: see :class:`.Speed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from flask_hubspot_hitl.ledger import Speed

from ..databases import SPEEDS
from .dispatch import LANES, drain
from .figures import Case, Figure, interleave
from .intake import CONNECTIONS, FASTEST, measure
from .stage import Host, Stage

_SAME = {
    "sqlite": {"fast without turns"},  # group commit has its own
    "postgresql": {"fast without group_commit", "plain with group_commit"},
}


def run(stage: Stage) -> Iterator[Figure]:
    """Dispatched events and webhooks a second; the ratio is to the path that a measure is taken from or added to."""
    events, seconds = (LANES, 1.0) if stage.quick else (3 * LANES, 2.0)
    with stage.hosts(threads=LANES) as hosts:
        cases: dict[str, Case] = {
            f"{kind}, {name}": partial(_once, stage, host, speed, events=events, seconds=seconds)
            for kind, host in hosts.items()
            for name, speed in _kinds(kind).items()
        }
        found = interleave(cases, stage.rounds, stage.say)
    for kind in stage.databases:
        for figure, unit in (("dispatch", "events/s"), ("intake", "requests/s"), ("p99", "ms")):
            for name in _kinds(kind):
                path = name.split()[0]
                yield Figure(
                    subject="seam",
                    what=f"{figure}: {name}",
                    database=kind,
                    unit=unit,
                    values=found[f"{kind}, {name}"][figure],
                    against=path if name != path else "",
                    yardstick=found[f"{kind}, {path}"][figure] if name != path else (),
                )


def _kinds(database: str) -> dict[str, Speed]:
    return {name: speed for name, speed in SPEEDS.items() if name not in _SAME[database]}


def _once(stage: Stage, host: Host, speed: Speed, *, events: int, seconds: float) -> dict[str, float]:
    dispatched = drain(stage, host, events, speed=speed)
    with host.serve(speed=speed) as server:
        take = partial(measure, stage, server, host, size=1, connections=CONNECTIONS)
        take(int(FASTEST * 0.5), seconds=0.5)  # warm up: every process has its connections and its statements
        taken = take(int(FASTEST * seconds), seconds=seconds)
    return {"dispatch": dispatched["rate"], "intake": taken["rate"], "p99": taken["p99"]}
