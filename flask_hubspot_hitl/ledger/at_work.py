"""Know the lease of the task at work, so that what it stores while it runs is refused once its lane was taken away.

A lane is taken from its task by an erasure, which waits for nobody, or because the lease ran out. What a task changes
at its end is stored with its outcome, by whoever holds the lane; see :meth:`.door.Ledger.write_at_work` for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from .queue import Lease


@dataclass(slots=True)
class _AtWork:
    """Hold the lease while its task runs; contexts that outlive the task have no lease."""

    lease: Lease | None


_task: ContextVar[_AtWork | None] = ContextVar("hubspot_hitl_at_work", default=None)


@contextmanager
def working(lease: Lease) -> Iterator[None]:
    """Let ``lease`` be that of the task at work, in this context and those that are copied from it."""
    here = _AtWork(lease)
    reset = _task.set(here)
    try:
        yield
    finally:
        here.lease = None
        _task.reset(reset)


def lease_at_work() -> Lease | None:
    """Return the lease of the task at work; None outside of a task."""
    here = _task.get()
    return None if here is None else here.lease
