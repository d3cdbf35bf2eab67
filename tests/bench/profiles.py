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
            began = time.perf_counter()
            plain()
            took = time.perf_counter() - began
            go = prepare(host, EVENTS)
            profile = cProfile.Profile()
            profile.runcall(go)
        print(
            f"\n{subject} on {kind}: {EVENTS} events in {took:.2f} s, {took * 1000 / EVENTS:.2f} ms each, one thread\n"
        )
        for order in ("tottime", "cumulative"):
            pstats.Stats(profile).strip_dirs().sort_stats(order).print_stats(LINES)
