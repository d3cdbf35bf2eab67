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

UNITS = {
    "dispatch": "events/s",
    "dispatch, CPU": "ms/event",
    "intake": "requests/s",
    "intake, CPU": "ms/request",
    "intake, p99": "ms",
}
"""What is measured. CPU is what the worker, or the server, used: it holds on a machine that does other things, too."""
_SAME = {
    "sqlite": {"fast without turns", "fast without pipelined", "plain with pipelined"},  # group commit has its own
    "postgresql": {"fast without group_commit", "plain with group_commit", "plain with pipelined"},
}


def run(stage: Stage) -> Iterator[Figure]:
    """Dispatched events and webhooks a second; the ratio is to the path that a measure is taken from or added to."""
    events, seconds = (LANES, 1.0) if stage.quick else (3 * LANES, 2.0)
    cases: dict[str, Case] = {}
    # Hosts of their own: webhooks that are only stored leave the agents as they were, and the next backlog would be
    # of assignments that change nothing.
    with stage.hosts(threads=LANES) as workers, stage.hosts(threads=LANES) as servers:
        for kind in stage.databases:
            for name, speed in _kinds(kind).items():
                cases[f"{kind}, {name}, dispatch"] = partial(_dispatch, stage, workers[kind], speed, events)
                cases[f"{kind}, {name}, intake"] = partial(_intake, stage, servers[kind], speed, seconds)
        found = interleave(cases, stage.rounds, stage.say)
    for kind in stage.databases:
        for figure, unit in UNITS.items():
            subject = figure.partition(",")[0]
            for name in _kinds(kind):
                path = name.split()[0]
                yield Figure(
                    subject="seam",
                    what=f"{figure}: {name}",
                    database=kind,
                    unit=unit,
                    values=found[f"{kind}, {name}, {subject}"][figure],
                    against=path if name != path else "",
                    yardstick=found[f"{kind}, {path}, {subject}"][figure] if name != path else (),
                )


def _kinds(database: str) -> dict[str, Speed]:
    return {name: speed for name, speed in SPEEDS.items() if name not in _SAME[database]}


def _dispatch(stage: Stage, host: Host, speed: Speed, events: int) -> dict[str, float]:
    found = drain(stage, host, events, speed=speed)
    return {"dispatch": found["rate"], "dispatch, CPU": found["cpu"]}


def _intake(stage: Stage, host: Host, speed: Speed, seconds: float) -> dict[str, float]:
    with host.serve(speed=speed) as server:
        take = partial(measure, stage, server, host, size=1, connections=CONNECTIONS)
        take(int(FASTEST * 0.5), seconds=0.5)  # warm up: every process has its connections and its statements
        found = take(int(FASTEST * seconds), seconds=seconds)
    return {"intake": found["rate"], "intake, CPU": found["server"], "intake, p99": found["p99"]}
