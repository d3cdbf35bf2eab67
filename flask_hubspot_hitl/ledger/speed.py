"""Choose what makes the ledger fast. Each measure may be off by itself, and all are off on the plain path.

The plain path promises the same, and the ledger's tests run on both. What each measure gives: docs/architecture.rst,
"What the fast path gives".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Say which measures are on.

    :param group_commit: SQLite: threads that wait to write share a transaction, and so its commit. It hands the
        transaction on by turns, and has them even where ``turns`` is off. PostgreSQL does the same by itself.
    :param turns: threads write in the order in which they came, one at a time on SQLite and a few on PostgreSQL. When
        off, SQLite's are kept apart by a lock, and PostgreSQL has as many as there are connections.
    :param prepared: statements that are made once are compiled once and run by the driver. When off, SQLAlchemy runs
        them.
    :param pipelined: PostgreSQL: prepared statements are run by libpq, and those whose answer nobody needs are sent
        with the next one. When off, psycopg runs each by itself; without ``prepared`` it is off in any case.
    :param warm: connections that were just used wait for the next transaction. When off, each transaction takes one
        from SQLAlchemy's pool.
    """

    group_commit: bool = True
    turns: bool = True
    prepared: bool = True
    pipelined: bool = True
    warm: bool = True


FAST = Speed()
"""All measures: what apps run with."""
PLAIN = Speed(group_commit=False, turns=False, prepared=False, pipelined=False, warm=False)
"""No measure."""
