"""Remember in the ledger what the Studio bridge needs beside the handoffs."""

from __future__ import annotations

from typing import Any

from ...ledger import Ledger
from ..delivery import ONCE, Payload

NAME = "studio"
"""The bridge's name: of its memory, its handoffs, and its topic."""


class Memory:
    """Remember what the bot should know of an ended session, and agents' webchat users; pruned with the dedupe keys."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def keep_ended(self, conversation_id: str, event: Payload) -> None:
        """Keep for the next turn what the bot should know of the session that has ended."""
        self._put(f"ended:{conversation_id}", {"event": event})

    def take_ended(self, conversation_id: str, turn: str) -> dict[str, Any] | None:
        """Return what was kept, to one turn, and to that turn again if it is replayed; else None."""
        key = f"{ONCE}ended:{conversation_id}"
        with self._ledger.read() as tx:
            if tx.bridges.get(NAME, key) is None:
                return None  # as at nearly every turn
        with self._ledger.write() as tx:
            found = tx.bridges.get(NAME, key, lock=True)
            if found is not None and found.get("turn") not in (None, turn):
                tx.bridges.delete(NAME, key)
                return None
            if found is not None and found.get("turn") is None:
                tx.bridges.put(NAME, key, {**found, "turn": turn}, now=self._ledger.now_ms())
        return found and dict(found["event"])

    def webchat_user(self, handoff_id: str, actor_id: str) -> str | None:
        """Return the webchat user that an agent has in a handoff, or None."""
        with self._ledger.read() as tx:
            found = tx.bridges.get(NAME, f"{ONCE}webchat:{handoff_id}:{actor_id}")
        return None if found is None else str(found)

    def keep_webchat_user(self, handoff_id: str, actor_id: str, user_id: str) -> None:
        """Remember the webchat user that an agent has in a handoff."""
        self._put(f"webchat:{handoff_id}:{actor_id}", user_id)

    def _put(self, key: str, value: Any) -> None:
        with self._ledger.write_at_work() as tx:
            tx.bridges.put(NAME, ONCE + key, value, now=self._ledger.now_ms())
