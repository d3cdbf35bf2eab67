"""Wait for a condition, and say what was seen instead when it does not come. Imports nothing of ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0
"""Seconds that everything waits at most, unless told otherwise.

Many, because a busy machine is slow, and only a test that fails waits to the end."""
INTERVAL = 0.02
"""Seconds between two looks."""

_Found = TypeVar("_Found")


def wait_until(
    look: Callable[[], _Found | None],
    what: str,
    *,
    timeout: float = PATIENCE,
    explain: Callable[[], str] | None = None,
) -> _Found:
    """Look again and again until something true is found, and return it.

    :param look: looks, and returns what it found; anything false means: look again.
    :param what: what is waited for, as it reads after "waited in vain for".
    :param timeout: seconds.
    :param explain: returns what to add to the failure: what is there instead.
    :returns: the first true result of ``look``.
    :raises AssertionError: nothing was found in time.
    """
    __tracebackhide__ = True  # pytest shows the line of the test instead
    ends = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > ends:
            why = f"\n\n{explain()}" if explain is not None else ""
            raise AssertionError(f"waited {timeout:g} s in vain for {what}{why}")
        time.sleep(INTERVAL)
    return found
