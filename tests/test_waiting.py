"""How long somebody waits for what concerns others, measured in a server as it is deployed (rules H1, H2)."""

from __future__ import annotations

import pytest

from .bench import waiting
from .bench.stage import DATABASES, ROOT

pytestmark = pytest.mark.slow
TRIES = 2
SLACK = {"ms": 4.0, "s": 2.0}
"""What a busy machine may take longer than is wanted; the bench holds to what is wanted. It was ten times before."""


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("what", waiting.FIGURES)
def test_nobody_waits_for_what_can_wait(what: str, database: str) -> None:
    """A hundred conversations whose receivers wait, in one worker; and one portal's backlog, and another's agent."""
    missed: list[dict[str, float]] = []
    while len(missed) < TRIES:
        found = waiting.measure(ROOT, what, database, quick=False)
        if all(
            found[name] <= target.limit * SLACK.get(unit, 1) if target.at_most else found[name] >= target.limit
            for name, (unit, target) in waiting.FIGURES[what].items()
        ):
            return
        missed.append(found)
    pytest.fail(f"{missed}")
