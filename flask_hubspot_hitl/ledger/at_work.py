"""Know the lease of the task at work, so that what it stores while it runs is refused once its lane was taken away.

A lane is taken from its task by an erasure, which waits for nobody, or because the lease ran out. What a task changes
at its end is stored with its outcome, by whoever holds the lane; see :meth:`.door.Ledger.write_at_work` for the rest.
"""

from __future__ import annotations

from contextvars import ContextVar

from .queue import Lease


class working:
    """Let ``lease`` be that of the task at work, in this context and those that are copied from it.

    Contexts that outlive the task have no lease.
    """

    __slots__ = ("_reset", "lease")

    def __init__(self, lease: Lease) -> None:
        self.lease: Lease | None = lease

    def __enter__(self) -> None:
        self._reset = _task.set(self)

    def __exit__(self, *raised: object) -> None:
        self.lease = None
        _task.reset(self._reset)


_task: ContextVar[working | None] = ContextVar("hubspot_hitl_at_work", default=None)


def lease_at_work() -> Lease | None:
    """Return the lease of the task at work; None outside of a task."""
    here = _task.get()
    return None if here is None else here.lease
