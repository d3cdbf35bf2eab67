"""Whether a worker grows: its memory after a thousand events, and after many more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .figures import Figure, Target
from .stage import Stage

FEW = 1_000
CHUNK = 1_000


def run(stage: Stage) -> Iterator[Figure]:
    """Resident memory of ``flask hubspot-hitl worker``."""
    many = 5_000 if stage.quick else 100_000
    for kind in stage.databases:
        with stage.host(kind, threads=300) as host, host.worker() as process:
            few = 0.0
            for told in range(CHUNK, many + 1, CHUNK):
                stage.say(f"memory, {kind}: {told:,} of {many:,} events")
                host.accept(CHUNK)
                host.wait_for(told)
                if told == FEW:
                    few = _resident_mb(process.pid)
            yield Figure(
                subject="memory",
                what=f"a worker after {many:,} events",
                database=kind,
                unit="MB",
                values=(_resident_mb(process.pid),),
                against=f"after {FEW:,}",
                yardstick=(few,),
                target=Target(1.1, at_most=True, of_ratio=True),
            )


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
