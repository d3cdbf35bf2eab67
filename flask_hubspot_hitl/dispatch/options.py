"""How an app's lanes are run: what its dispatcher, its threads and its runner are made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..metrics import Meter


def _nothing() -> None:
    """Give no reason, and do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Describe how an app's lanes are run. Times are in seconds."""

    mode: str
    """``thread`` (in serving processes), ``external`` (by ``worker`` or ``tick``) or ``inline`` (in the caller)."""
    threads: int
    """Threads that run lanes in one process, at first, and that are kept working."""
    max_threads: int = 64
    """Threads that there may be, with those started in the place of others that wait or hang."""
    grows: bool = False
    """Whether a thread is started in the place of one whose receiver or call takes long, not only if it hangs."""
    lease_ttl: float
    """How long a lease holds that is not renewed: after that time another process takes the lane over."""
    handler_timeout: float
    """How long a receiver may run before another thread takes over its thread's work."""
    max_attempts: int
    """Attempts at an event before it is given up."""
    poll: float | None = None
    """Between two looks at the database where no notification arrives; None: what suits the database."""
    guard: Callable[[], str | None] = _nothing
    """Returns the reason why nothing may be dispatched, such as a copied database, or None."""
    on_start: Callable[[], None] = _nothing
    """Called once in each process that dispatches, by the clock thread."""
    meter: Meter = field(default_factory=Meter)
    """Takes what is measured."""
    is_testing: Callable[[], bool] = lambda: False
    """Tells whether the app is being tested: then nothing starts before there is something to do."""

    @property
    def lease_ms(self) -> int:
        """``lease_ttl`` in milliseconds."""
        return int(self.lease_ttl * 1000)
