"""How long a transaction may wait for others: for locks, for a connection, for the server's answers, in all."""

from __future__ import annotations

from ..clock import Deadline

LONGEST = 4.0
"""Seconds that any transaction may wait."""

patience = Deadline("hitl_patience_ends")
"""Bounds what all transactions in a block together wait, in seconds; after that the ledger is unavailable."""

remaining = patience.left
"""Returns the seconds that are left to wait, 0 when there are none; infinity outside of a block."""
