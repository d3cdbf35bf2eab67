"""Where the time goes: intake or dispatch in this process and this thread, under cProfile."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Callable

from . import dispatch, intake
from .stage import Host, Stage

SUBJECTS: dict[str, Callable[[Host, int], Callable[[], None]]] = {
    "intake": intake.profiled,
    "dispatch": dispatch.profiled,
}
EVENTS = 2000
LINES = 45


def run(stage: Stage, subject: str) -> None:
    """Print, for each database, how long it took without the profiler, and the functions that took most."""
    prepare = SUBJECTS[subject]
    for kind in stage.databases:
        with stage.host(kind, threads=dispatch.LANES) as host:
            prepare(host, EVENTS // 4)()  # warm up
            plain = prepare(host, EVENTS)
            began, cpu = time.perf_counter(), time.process_time()
            plain()
            each, own = (time.perf_counter() - began) * 1000 / EVENTS, (time.process_time() - cpu) * 1000 / EVENTS
            go = prepare(host, EVENTS)
            profile = cProfile.Profile()
            profile.runcall(go)
        print(f"\n{subject} on {kind}: {EVENTS} events, {each:.2f} ms each, {own:.2f} ms of it CPU, one thread\n")
        for order in ("tottime", "cumulative"):
            pstats.Stats(profile).strip_dirs().sort_stats(order).print_stats(LINES)
