"""Bound what the build machine runs of the slow tests, for as many seconds as ``HITL_SLOW_SECONDS`` says.

The crash rig comes first. The others come in an order that is another one each day, so that each has its turn; those
that find the time over are skipped and say so. Without the setting all of them run, in the usual order.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

SECONDS, DAY = "HITL_SLOW_SECONDS", "HITL_SLOW_DAY"
FIRST = ("tests/test_rig.py", "tests/test_crash.py", "tests/test_erasing.py", "tests/test_failover.py")
BEGAN = time.monotonic()


def few_of(values: Iterable[Any], *few: Any) -> list[Any]:
    """Return the parameters of a test that is quick with a ``few`` values, and slow with the others."""
    kept = list(values)
    if missing := set(few) - set(kept):
        raise ValueError(f"not among the values: {missing}")
    return [pytest.param(one, marks=() if one in few else pytest.mark.slow, id=str(one)) for one in kept]


def pytest_configure() -> None:
    """All workers of a run have the same day, also around midnight."""
    os.environ.setdefault(DAY, datetime.now(UTC).date().isoformat())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order of the day."""
    if SECONDS in os.environ:
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, str]:
    of_today = hashlib.sha256(f"{os.environ[DAY]} {item.nodeid}".encode()).hexdigest()
    return item.nodeid.partition("::")[0] not in FIRST, of_today


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin no slow test once the time is over."""
    limit = float(os.environ.get(SECONDS, "inf"))
    if item.get_closest_marker("slow") is not None and time.monotonic() - BEGAN > limit:
        pytest.skip("the time for slow tests is over; it is run on another day, and by 'make slow'")
