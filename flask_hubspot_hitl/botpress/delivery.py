"""Send messages of several parts to a service without idempotency: each part once, as far as the service tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from ..dispatch.housekeeping import DELIVERIES
from ..ledger import Ledger
from .service import BotpressUnavailable

ONCE = DELIVERIES
"""Prefix of the keys under which a bridge remembers how far a delivery is; they are pruned with the dedupe keys."""

Payload = dict[str, Any]
"""A Botpress payload, with its ``type``."""
Find = Callable[[Payload, int, Collection[str]], str | None]
"""Takes a part, the epoch ms of its first attempt, and the ids of messages that it is not; returns the id under which
it has arrived, None when it has not."""
MOST_SENT = 50
"""Ids that are remembered of what was sent to one place."""


class Delivery:
    """Send the parts of messages for one bridge, in order, and remember after each how far the delivery is."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self._name = name

    def send(
        self,
        key: str,
        parts: Sequence[Payload],
        send: Callable[[Payload], str | None],
        *,
        to: str = "",
        find: Find | None = None,
    ) -> None:
        """Send those parts of a message that were not sent yet; whatever ``send`` raises goes on.

        :param key: names the message.
        :param parts: all its parts.
        :param send: sends one part, and returns the id that the service gives it, or None.
        :param to: names where it goes; with ``find``.
        :param find: asked, before a part is sent again that may have arrived (no answer, or this process was killed).
        """
        with self._ledger.read() as tx:
            state = tx.bridges.get(self._name, ONCE + key) or {"done": 0}
        for number in range(state["done"], len(parts)):
            tried_at = state.get("tried_at")
            found = None if tried_at is None or find is None else find(parts[number], tried_at, self._sent(to))
            if found is None:
                state["tried_at"] = tried_at or self._ledger.now_ms()
                self._save(key, state)
                try:
                    found = send(parts[number])
                except BotpressUnavailable as error:
                    if not error.ambiguous and tried_at is None:
                        self._save(key, {"done": number})
                    raise
            state = {"done": number + 1}
            self._save(key, state, to if find else "", found)

    def _save(self, key: str, state: dict[str, int], to: str = "", sent: str | None = None) -> None:
        with self._ledger.write_at_work() as tx:
            tx.bridges.put(self._name, ONCE + key, state, now=self._ledger.now_ms())
            if to and sent:
                known = tx.bridges.get(self._name, _sent_to(to)) or []
                tx.bridges.put(self._name, _sent_to(to), [*known, sent][-MOST_SENT:], now=self._ledger.now_ms())

    def _sent(self, to: str) -> list[str]:
        """Return the ids of what was sent there: another message may say the same."""
        with self._ledger.read() as tx:
            return tx.bridges.get(self._name, _sent_to(to)) or []


def _sent_to(to: str) -> str:
    return f"{ONCE}sent:{to}"
