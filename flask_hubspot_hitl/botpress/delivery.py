"""Send messages of several parts to a service without idempotency: each part once, as far as the service tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dispatch.housekeeping import DELIVERIES
from ..ledger import Ledger
from .service import BotpressUnavailable

ONCE = DELIVERIES
"""Prefix of the keys under which a bridge remembers how far a delivery is; they are pruned with the dedupe keys."""

Payload = dict[str, Any]
"""A Botpress payload, with its ``type``."""


class Delivery:
    """Send the parts of messages for one bridge, in order, and remember after each how far the delivery is."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self._name = name

    def send(
        self,
        key: str,
        parts: Sequence[Payload],
        send: Callable[[Payload], None],
        *,
        is_there: Callable[[Payload, int], bool] | None = None,
    ) -> None:
        """Send those parts of a message that were not sent yet; whatever ``send`` raises goes on.

        :param key: names the message.
        :param parts: all its parts.
        :param send: sends one part.
        :param is_there: asked, before a part is sent again that may have arrived (no answer, or this process was
            killed): ``is_there(part, since)``, where ``since`` is the epoch ms of its first attempt.
        """
        with self._ledger.read() as tx:
            state = tx.bridges.get(self._name, ONCE + key) or {"done": 0}
        for number in range(state["done"], len(parts)):
            tried_at = state.get("tried_at")
            if tried_at is None or is_there is None or not is_there(parts[number], tried_at):
                state["tried_at"] = tried_at or self._ledger.now_ms()
                self._save(key, state)
                try:
                    send(parts[number])
                except BotpressUnavailable as error:
                    if not error.ambiguous and tried_at is None:
                        self._save(key, {"done": number})
                    raise
            state = {"done": number + 1}
            self._save(key, state)

    def _save(self, key: str, state: dict[str, int]) -> None:
        with self._ledger.write_at_work() as tx:
            tx.bridges.put(self._name, ONCE + key, state, now=self._ledger.now_ms())
