"""How often an installation may call: the ten-second, daily and search limits, their headers and their 429.

Source: docs/hubspot.rst (Limits and errors).

Counted always and told in headers; refused only when the switches ``rate_limit``, ``daily_limit`` or ``search_limit``
say so.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

from ..model.errors import ApiError

if TYPE_CHECKING:
    from .chaos import Chaos

ANNOUNCED = 110
WINDOW_SECONDS = 10
SEARCH_SECONDS = 1
Caller = tuple[str, str]
"""App id and portal id."""


class Limits:
    """The calls of each installation. Guarded by the simulation's lock."""

    def __init__(self) -> None:
        self._recent: defaultdict[Caller, deque[float]] = defaultdict(deque)
        self._searches: defaultdict[Caller, deque[float]] = defaultdict(deque)
        self._today: Counter[Caller] = Counter()

    def count(self, caller: Caller, chaos: Chaos, *, search: bool) -> dict[str, str]:
        """Count a call; the headers its answer gets. Raises ApiError (429), and then the call counts for nothing.

        CRM search has a limit of its own, and its answers have no headers.
        """
        if search:
            if not _room(self._searches[caller], SEARCH_SECONDS, chaos.search_limit):
                raise too_many("SECONDLY", "secondly")
            return {}
        if chaos.daily_limit is not None and self._today[caller] >= chaos.daily_limit:
            raise too_many("DAILY", "daily")
        recent = self._recent[caller]
        if not _room(recent, WINDOW_SECONDS, chaos.rate_limit):
            raise too_many("TEN_SECONDLY_ROLLING", "ten_secondly_rolling")
        self._today[caller] += 1
        most = chaos.rate_limit or ANNOUNCED
        answer = {
            "X-HubSpot-RateLimit-Max": str(most),
            "X-HubSpot-RateLimit-Remaining": str(max(0, most - len(recent))),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(WINDOW_SECONDS * 1000),
        }
        if chaos.daily_limit is not None:
            answer["X-HubSpot-RateLimit-Daily"] = str(chaos.daily_limit)
            answer["X-HubSpot-RateLimit-Daily-Remaining"] = str(chaos.daily_limit - self._today[caller])
        return answer


def _room(calls: deque[float], seconds: float, most: int | None) -> bool:
    """Whether one more call fits into the last ``seconds``; it is noted if it does."""
    now = time.monotonic()
    while calls and calls[0] <= now - seconds:
        calls.popleft()
    if most is not None and len(calls) >= most:
        return False
    calls.append(now)
    return True


def too_many(policy: str, name: str) -> ApiError:
    """429 in both of HubSpot's forms at once: ``policyName`` is the older one, ``category`` the newer."""
    return ApiError(
        429,
        "RATE_LIMITS",
        f"You have reached your {name} limit.",
        errorType="RATE_LIMIT",
        policyName=policy,
        requestId=str(uuid.uuid4()),
    )
