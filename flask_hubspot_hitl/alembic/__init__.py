"""For a host whose Alembic (or Flask-Migrate) looks at a database that it shares with us: our tables are not its own.

Without it ``alembic revision --autogenerate`` and ``flask db migrate`` would write down that our tables are to be
dropped. In ``env.py``: ``context.configure(…, include_name=flask_hubspot_hitl.alembic.include_name)``; with
Flask-Migrate: ``Migrate(app, db, include_name=flask_hubspot_hitl.alembic.include_name)``. Does not import Alembic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ledger.schema import SCHEMA, TABLES


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Alembic's ``include_name``: False for what is in the database and ours.

    A host that has one of its own answers ``include_name(name, type_, parent_names) and …``.

    :param name: what a schema, table, column or index is called; None is the default schema.
    :param type_: what it is: ``schema``, ``table``, …
    :param parent_names: the names of what it belongs to.
    """
    if type_ == "schema":
        return name != SCHEMA
    return (name if type_ == "table" else parent_names.get("table_name")) not in TABLES


def include_object(object_: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Alembic's ``include_object``, for an ``env.py`` that has that hook already: False for our tables."""
    return not (type_ == "table" and reflected and compare_to is None and name in TABLES)
